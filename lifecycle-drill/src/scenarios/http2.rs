//! The states of an HTTP/2 connection at the moment of the signal.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    client::{Fate, H2c, Scan, Wire, raw},
    flaw::{During as _, Flaw, ensure},
    process::Setting,
    routes::lasting,
    scenario::{Need, Scenario, Theme},
    scenarios::signals::SETTLE,
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 7] = [
    Scenario::new(Theme::Http2, "http2-partial-preface", MUTE_TEXT, &[Need::H2c], |stage| {
        Box::pin(mute(stage, raw::PREFACE.iter().take(10).copied().collect()))
    }),
    Scenario::new(Theme::Http2, "http2-preface-then-silence", MUTE_TEXT, &[Need::H2c], |stage| {
        Box::pin(mute(stage, raw::PREFACE.to_vec()))
    }),
    Scenario::new(Theme::Http2, "http2-settings-then-silence", MUTE_TEXT, &[Need::H2c], |stage| {
        Box::pin(mute(stage, [raw::PREFACE, raw::SETTINGS].concat()))
    }),
    Scenario::new(
        Theme::Http2,
        "http2-never-answers-ping",
        (
            "a graceful GOAWAY waits for the answer to a PING: a peer that vanished without a \
             FIN never gives it",
            "bound the wait for that answer, then close",
        ),
        &[Need::H2c],
        |stage| Box::pin(never_answers_ping(stage)),
    ),
    Scenario::new(
        Theme::Http2,
        "http2-idle-goaway",
        (
            "GOAWAY is how an HTTP/2 client learns to go elsewhere without losing a stream; a \
             bare close is a failure for whatever was on its way",
            "send GOAWAY to every HTTP/2 connection when the drain begins, then close",
        ),
        &[Need::H2c],
        |stage| Box::pin(idle_goaway(stage)),
    ),
    Scenario::new(
        Theme::Http2,
        "http2-streams-in-flight",
        (
            "one HTTP/2 connection carries many requests: closed early, all of them are lost",
            "after GOAWAY let the streams at or below its last id finish",
        ),
        &[Need::H2c, Need::Work],
        |stage| Box::pin(streams_in_flight(stage)),
    ),
    Scenario::new(
        Theme::Http2,
        "http2-new-stream-lame-duck",
        (
            "HTTP/2 clients keep one connection for everything: what they ask in the lame duck \
             must be answered as over HTTP/1",
            "serve through the lame duck; two-step GOAWAY, so that no stream is lost in between",
        ),
        &[Need::H2c, Need::LameDuck],
        |stage| Box::pin(new_stream(stage)),
    ),
];

/// A connection that says this and then nothing is closed soon after C; a second for GOAWAY.
async fn mute(stage: &mut Stage, said: Vec<u8>) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire_for_http2().await?;
    wire.send(said).await.during("saying less than a request")?;
    sleep(SETTLE).await;
    stage.stop()?;
    stage.exits_clean(stage.idle_end() + GOAWAY_LIMIT).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn never_answers_ping(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire_for_http2().await?;
    let hello = [raw::PREFACE, raw::WIDE_SETTINGS].concat();
    wire.send(hello).await.during("the preface")?;
    let mut scan = Scan::default();
    watch(&mut wire, &mut scan, |scan| scan.seen().settings).await?;
    let path = stage.subject.routes.quick_path();
    let ask = [raw::SETTINGS_ACK, &wire.request_frame(1, &path)].concat();
    wire.send(ask).await.during("a stream")?;
    let is_over = |scan: &Scan| {
        let mut over = scan.seen().ended.iter().chain(&scan.seen().reset);
        over.any(|stream| *stream == 1)
    };
    watch(&mut wire, &mut scan, is_over).await?;
    ensure(scan.seen().reset.is_empty(), || "a stream was reset".to_owned())?;
    stage.note("one stream answered; no PING will be");
    stage.stop()?;
    stage.exits_clean(stage.idle_end() + GOAWAY_LIMIT).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn idle_goaway(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut client = stage.h2c().await?;
    stage.learn_quick_on(&client).await?;
    stage.stop()?;
    let end = stage.idle_end() + stage.subject.slack;
    let left = (stage.cause() + end).saturating_duration_since(Instant::now());
    let closed = client.closed(left).await;
    stage.note(format!("closed: {closed}, last ids of GOAWAY: {:?}", client.seen().goaways));
    ensure(client.told_to_go(), || "an idle connection got no GOAWAY".to_owned())?;
    ensure(closed, || "an idle connection is still open".to_owned())?;
    stage.exits_clean(stage.idle_end() + GOAWAY_LIMIT).await
}

async fn streams_in_flight(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let client = stage.h2c().await?;
    let template = stage.subject.routes.work.clone().unwrap_or_default();
    let time = stage.subject.lame_duck + Duration::from_millis(500);
    let mut asked = Vec::new();
    for part in 1..=4 {
        let asking = client.ask(&lasting(&template, SETTLE + time * part / 4)).await;
        asked.push(asking.during("opening a stream")?);
    }
    sleep(SETTLE).await;
    stage.stop()?;
    for asked in asked {
        let id = asked.id;
        let fate = client.answer(asked).await.during("a stream in flight")?;
        stage.note(format!("stream {id}: {fate}"));
        is_200(fate, "a stream in flight")?;
    }
    stage.exits_clean(time.max(stage.idle_end()) + GOAWAY_LIMIT).await
}

async fn new_stream(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let client = stage.h2c().await?;
    stage.learn_quick_on(&client).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck / 2).await;
    if client.told_to_go() {
        // An early GOAWAY is well: then the client goes to a new connection.
        stage.note("told to go by GOAWAY already");
    } else {
        let status = quick(stage, &client, "a new stream in the lame duck").await?;
        stage.served(status, "a new stream in the lame duck")?;
        stage.note("a new stream on the old connection is answered");
    }
    let fresh = stage.h2c().await?;
    let doing = "a new HTTP/2 connection in the lame duck";
    stage.served(quick(stage, &fresh, doing).await?, doing)?;
    stage.note("a stream on a new connection is answered");
    stage.exits_clean(stage.idle_end() + GOAWAY_LIMIT).await
}

/// The status of a quick stream.
async fn quick(stage: &Stage, client: &H2c, doing: &'static str) -> Result<u16, Flaw> {
    let fate = client.get(&stage.subject.routes.quick_path()).await.during(doing)?;
    fate.status().ok_or_else(|| Flaw::Seen(format!("{doing}: {fate}")))
}

fn is_200(fate: Fate, what: &str) -> Result<(), Flaw> {
    ensure(matches!(fate, Fate::Answered { status: 200, .. }), || format!("{what}: {fate}"))
}

/// Reads frames until some have come.
async fn watch(
    wire: &mut Wire,
    scan: &mut Scan,
    enough: impl Fn(&Scan) -> bool,
) -> Result<(), Flaw> {
    while !enough(scan) {
        match wire.raw().await.during("reading frames")? {
            Some(bytes) => scan.push(&bytes),
            None => return Err(Flaw::Seen("closed in the middle of a stream".to_owned())),
        }
    }
    Ok(())
}

const MUTE_TEXT: (&str, &str) = (
    "a peer that stops in the middle of the HTTP/2 greeting holds the drain of most servers \
     for ever: their graceful shutdown waits for a handshake that never ends",
    "bound the handshake, and close connections that are silent without a stream",
);
const GOAWAY_LIMIT: Duration = Duration::from_secs(1);
