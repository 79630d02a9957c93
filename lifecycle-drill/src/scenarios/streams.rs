//! Responses without an end.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    client::{Fate, Framing, Reader, request},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    stage::{During as _, Flaw, Stage, ensure, ms},
};

pub(super) const SCENARIOS: [Scenario; 2] = [
    Scenario::new(Theme::Streams, "streams-sse", TEXT, &[Need::Events], |stage| {
        Box::pin(over_http1(stage))
    }),
    Scenario::new(Theme::Streams, "streams-sse-http2", TEXT, &[Need::Events, Need::H2c], |stage| {
        Box::pin(over_http2(stage))
    }),
];

/// What a listener to the stream has seen.
#[derive(Default)]
struct Heard {
    /// Time since the signal of the last piece that came in the lame duck.
    last_in_lame_duck: Option<Duration>,
    pieces: u32,
    bytes: u64,
}

async fn over_http1(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.events.clone().unwrap_or_default();
    let mut wire = stage.wire().await?;
    wire.send(request("GET", &path, None)).await.during("asking for events")?;
    let mut reader = Reader::new();
    wire.head(&mut reader).await.during("the head of an event stream")?;
    let framing = reader.so_far().map(crate::client::Response::framing);
    ensure(framing == Some(Framing::Chunked), || {
        format!(
            "an event stream ends by {framing:?}, not by a last chunk: nobody can tell \
                 whether it was cut"
        )
    })?;
    let patience = Instant::now() + stage.subject.request_timeout;
    while reader.so_far().is_none_or(|response| response.body_length() == 0) {
        wire.advance(&mut reader, patience).await.during("waiting for a first event")?;
    }
    stage.stop()?;
    let deadline = stage.cause() + stage.subject.grace;
    let mut heard = Heard::default();
    while !wire.advance(&mut reader, deadline).await.during("an event stream in the drain")? {
        let bytes = reader.so_far().map_or(0, crate::client::Response::body_length);
        let new = bytes.saturating_sub(heard.bytes);
        heard.piece(stage, new);
    }
    judge(stage, &heard).await
}

async fn over_http2(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.events.clone().unwrap_or_default();
    let client = stage.h2c().await?;
    let asked = client.ask(&path).await.during("asking for events")?;
    let mut answering = client.head(asked).await.during("the head of an event stream")?;
    let status = answering.status();
    ensure(status == 200, || format!("an event stream: answered {status}"))?;
    client.data(&mut answering).await.during("waiting for a first event")?;
    stage.stop()?;
    let mut heard = Heard::default();
    let reading = "an event stream in the drain";
    while let Some(bytes) = client.data(&mut answering).await.during(reading)? {
        heard.piece(stage, bytes as u64);
        let timed_out = Fate::TimedOut;
        ensure(stage.cause().elapsed() < stage.subject.grace, || {
            format!("{reading}: {timed_out}")
        })?;
    }
    judge(stage, &heard).await
}

impl Heard {
    fn piece(&mut self, stage: &Stage, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let since = stage.cause().elapsed();
        self.pieces += 1;
        self.bytes += bytes;
        if since < stage.subject.lame_duck {
            self.last_in_lame_duck = Some(since);
        }
    }
}

/// The stream has ended in order: was it at the right time, and does the process follow?
async fn judge(stage: &mut Stage, heard: &Heard) -> Result<(), Flaw> {
    let ended = stage.cause().elapsed();
    stage.note(format!("the stream ended in order, {} pieces since the signal", heard.pieces));
    let (lame_duck, slack) = (stage.subject.lame_duck, stage.subject.slack);
    ensure(ended + CLOCKS_APART >= lame_duck, || {
        format!("ended {} after the signal, before the drain began", ms(ended))
    })?;
    ensure(ended <= lame_duck + slack, || {
        format!("ended {} after the signal, expected by {}", ms(ended), ms(lame_duck + slack))
    })?;
    let ticking = heard.last_in_lame_duck.is_some_and(|last| last >= lame_duck / 2);
    ensure(ticking || lame_duck < Duration::from_millis(600), || {
        format!("no event in the second half of the lame duck; last: {:?}", heard.last_in_lame_duck)
    })?;
    stage.exits_clean(stage.idle_end()).await
}

const TEXT: (&str, &str) = (
    "an endless stream never lets a naive drain end; cut at the deadline, its clients cannot \
     tell a restart from a failure, and the exit code cries wolf",
    "end event streams with a proper last chunk when the drain begins: their clients connect \
     again elsewhere",
);
const CLOCKS_APART: Duration = Duration::from_millis(50);
