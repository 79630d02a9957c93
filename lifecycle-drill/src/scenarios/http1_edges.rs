//! Requests that arrive piece by piece across the signal or across the listener's close.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::{
    client::{Fate, Wire},
    flaw::{During as _, Flaw, closes, ensure, ms, ok},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    scenarios::{http1::used, signals::SETTLE},
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 7] = [
    Scenario::new(
        Theme::Http1,
        "http1-half-head-fresh-lame-duck",
        HALF_HEAD_TEXT,
        &[Need::LameDuck],
        |stage| Box::pin(half_head(stage, Connection::Fresh, Finished::InLameDuck)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-half-head-fresh-after-close",
        HALF_HEAD_TEXT,
        &[],
        |stage| Box::pin(half_head(stage, Connection::Fresh, Finished::AfterClose)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-half-head-reused-lame-duck",
        HALF_HEAD_TEXT,
        &[Need::LameDuck],
        |stage| Box::pin(half_head(stage, Connection::Reused, Finished::InLameDuck)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-half-head-reused-after-close",
        HALF_HEAD_TEXT,
        &[],
        |stage| Box::pin(half_head(stage, Connection::Reused, Finished::AfterClose)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-slow-upload",
        (
            "an upload under way when the listener closes is work in flight: cut, it has to be \
             sent again, if the client can",
            "go on reading the bodies of requests that were accepted",
        ),
        &[Need::Echo],
        |stage| Box::pin(slow_upload(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-pipelined-before",
        (
            "a second request behind the first in the same packet was read by the server: it \
             must be answered, unless the first answer told the client to go",
            "send `Connection: close` with the answer in flight, or answer what follows",
        ),
        &[Need::Work],
        |stage| Box::pin(pipelined_before(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-pipelined-lame-duck",
        (
            "closing with unread bytes resets the connection, and the reset erases the answer \
             that was sent just before",
            "after `Connection: close` half-close and read on for a moment before closing",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(pipelined_lame_duck(stage)),
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Fresh,
    Reused,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finished {
    InLameDuck,
    AfterClose,
}

async fn half_head(
    stage: &mut Stage,
    connection: Connection,
    finished: Finished,
) -> Result<(), Flaw> {
    if finished == Finished::AfterClose && stage.subject.idle_drain_timeout < HALF_HEAD_LASTS {
        let why = "half a head would be silent for longer than silent connections may be";
        return Err(Flaw::Skip(format!("{why}, {}", ms(stage.subject.idle_drain_timeout))));
    }
    while_unjudged(stage, move |stage| Box::pin(half_a_head(stage, connection, finished))).await
}

async fn half_a_head(
    stage: &mut Stage,
    connection: Connection,
    finished: Finished,
) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = match connection {
        Connection::Fresh => {
            stage.learn_quick().await?;
            stage.wire().await?
        }
        Connection::Reused => used(stage).await?,
    };
    let path = stage.subject.routes.quick_path();
    let whole = wire.request("GET", &path, None);
    let (half, rest) = whole.split_at(whole.len() - 8);
    match finished {
        Finished::InLameDuck => {
            wire.send(half).await.during("sending half a head before the signal")?;
            sleep(SETTLE).await;
            stage.stop()?;
            stage.at(stage.subject.lame_duck / 2).await;
        }
        Finished::AfterClose => {
            half_then_close(stage, &mut wire, half.as_bytes()).await?;
        }
    }
    stage.note("the other half of the head");
    wire.send(rest).await.during("sending the other half of the head")?;
    let response = wire.response().await.during("a request whose head came in two halves")?;
    stage.served(response.status(), "a request whose head came in two halves")?;
    closes(&response, "a request whose head came in two halves")?;
    drop(wire); // As told.
    let ended = stage.cause().elapsed();
    stage.exits_clean(ended.max(stage.idle_end())).await
}

async fn slow_upload(stage: &mut Stage) -> Result<(), Flaw> {
    while_unjudged(stage, |stage| Box::pin(upload_in_two_parts(stage))).await
}

/// Plays it again, a few times, where this machine has kept the client from its part.
async fn while_unjudged(
    stage: &mut Stage,
    play: impl Fn(&mut Stage) -> BoxFuture<'_, Result<(), Flaw>>,
) -> Result<(), Flaw> {
    for _ in 1..TRIES {
        match play(stage).await {
            Err(Flaw::Unjudged(why)) => stage.note(format!("once more: {why}")),
            judged => return judged,
        }
    }
    play(stage).await
}

async fn upload_in_two_parts(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let path = stage.subject.routes.echo.clone().unwrap_or_default();
    let mut wire = stage.wire().await?;
    let part = wire.request("POST", &path, Some(10)) + "abc";
    half_then_close(stage, &mut wire, part.as_bytes()).await?;
    stage.note("the rest of the upload");
    wire.send("defghij").await.during("sending the rest of the upload")?;
    let response = wire.response().await.during("a slow upload")?;
    ok(&response, "a slow upload")?;
    closes(&response, "a slow upload")?;
    ensure(response.body() == b"abcdefghij", || "the echo is not what was sent".to_owned())?;
    drop(wire); // As told.
    let ended = stage.cause().elapsed();
    stage.exits_clean(ended.max(stage.idle_end())).await
}

async fn pipelined_before(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    stage.learn_quick().await?;
    let mut wire = stage.wire().await?;
    let time = stage.subject.lame_duck / 2 + Duration::from_millis(500);
    let quick = wire.request("GET", &stage.subject.routes.quick_path(), None);
    wire.send(stage.get_work(time) + &quick).await.during("sending two requests at once")?;
    sleep(SETTLE).await;
    stage.stop()?;
    let first = wire.response().await.during("the first of two requests")?;
    ok(&first, "the first of two requests")?;
    stage.note(format!("the first is answered, close: {}", first.closes()));
    if !first.closes() {
        let second = wire.response().await.during("the second of two requests")?;
        stage.served(second.status(), "the second of two requests")?;
        stage.note("the second is answered");
    }
    drop(wire);
    stage.exits_clean(time.max(stage.idle_end())).await
}

async fn pipelined_lame_duck(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = used(stage).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck / 2).await;
    let quick = wire.request("GET", &stage.subject.routes.quick_path(), None);
    wire.send(quick.repeat(2)).await.during("sending two requests at once")?;
    let first = wire.response().await.during("the first of two requests in the lame duck")?;
    stage.served(first.status(), "the first of two requests in the lame duck")?;
    if !first.closes() {
        let second = wire.response().await;
        let fate = Wire::fate(&second);
        ensure(fate.is_answered(), || {
            format!("the first answer does not say close, the second request: {fate}")
        })?;
        let second = second.during("the second of two requests in the lame duck")?;
        closes(&second, "two requests in the lame duck, neither answer")?;
    }
    drop(wire);
    stage.exits_clean(stage.idle_end()).await
}

/// Sends a part shortly before the listener closes, and returns shortly after it has closed.
/// Without a lame duck the part is sent shortly before the signal.
async fn half_then_close(stage: &mut Stage, wire: &mut Wire, part: &[u8]) -> Result<(), Flaw> {
    let before_close = stage.subject.lame_duck.saturating_sub(BEFORE_CLOSE);
    if before_close.is_zero() {
        wire.send(part).await.during("sending a part before the signal")?;
        sleep(SETTLE).await;
        stage.stop()?;
    } else {
        stage.stop()?;
        stage.at(before_close).await;
        wire.send(part).await.during("sending a part in the lame duck")?;
        stage.note("sent a part");
    }
    let sent = Instant::now();
    stage.listener_closed().await?;
    sleep(AFTER_CLOSE).await;
    let silent = sent.elapsed();
    if silent >= stage.subject.idle_drain_timeout {
        // It may be closed by now, and rightly.
        let silent = ms(silent);
        return Err(Flaw::Unjudged(format!(
            "this machine let the client send nothing for {silent}"
        )));
    }
    Ok(())
}

/// What a late request on a kept connection may meet.
pub(super) fn is_clean_end(fate: Fate) -> bool {
    matches!(fate, Fate::EofBeforeResponse | Fate::NotSent)
}

const HALF_HEAD_TEXT: (&str, &str) = (
    "a request whose first bytes have arrived is under way: closed, its client sees a \
     failure that it may not repeat. Networks split heads at will",
    "before closing a connection look whether bytes of a head have come, and give the head a \
     second to complete",
);
const BEFORE_CLOSE: Duration = Duration::from_millis(350);
const TRIES: usize = 3;
const AFTER_CLOSE: Duration = Duration::from_millis(75);
/// From the half head before the listener's close to the rest after it, on a slow machine.
const HALF_HEAD_LASTS: Duration = Duration::from_millis(700);
