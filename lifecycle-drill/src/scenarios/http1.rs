//! The states of an HTTP/1 connection at the moment of the signal.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    client::{Fate, Framing, Hangup, Reader, Wire},
    flaw::{During as _, Flaw, closes, ensure, ms, ok},
    process::Setting,
    routes::sized,
    scenario::{Need, Scenario, Theme},
    scenarios::{cut::Cut, signals::SETTLE},
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 9] = [
    Scenario::new(
        Theme::Http1,
        "http1-connected-silent",
        (
            "browsers and balancers open connections ahead of need: one that never says a \
             word must not hold the drain",
            "close connections without a request in flight once they were silent for a bound",
        ),
        &[],
        |stage| Box::pin(silent(stage, b"")),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-idle-keep-alive",
        (
            "every pool keeps idle connections: if they hold the drain, no deploy ends in time",
            "close idle connections when the listener closes, after one last look for bytes",
        ),
        &[],
        |stage| Box::pin(idle_keep_alive(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-half-head",
        (
            "a client that stopped in the middle of a request head holds many servers' drain \
             for ever",
            "give a request head a deadline during the drain",
        ),
        &[],
        |stage| Box::pin(silent(stage, HALF_HEAD)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-in-flight",
        (
            "a request that was accepted is a promise: cut, it is an error that the client may \
             not be able to repeat",
            "wait for requests in flight, and send `Connection: close` with their answers",
        ),
        &[Need::Work],
        |stage| Box::pin(in_flight(stage, Duration::from_millis(500), Afterwards::Leaves)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-in-flight-across-close",
        (
            "a request that outlives the listener is still a promise",
            "close the listener and the idle connections only; wait for the rest",
        ),
        &[Need::Work],
        |stage| {
            let time = stage.subject.lame_duck + Duration::from_millis(500);
            Box::pin(in_flight(stage, time, Afterwards::Leaves))
        },
    ),
    Scenario::new(
        Theme::Http1,
        "http1-client-stays",
        (
            "a server that reads on after its last answer, so that no reset erases it, must not \
             do so for as long as the client likes",
            "bound the time of reading on after `Connection: close`",
        ),
        &[Need::Work],
        |stage| {
            let time = stage.subject.lame_duck + Duration::from_millis(500);
            Box::pin(in_flight(stage, time, Afterwards::Stays))
        },
    ),
    Scenario::new(
        Theme::Http1,
        "http1-finite-stream",
        (
            "a download under way must arrive whole: its handler has returned long ago, so \
             counting handlers is not enough",
            "count a request as in flight until the end of its response body",
        ),
        &[Need::Big],
        |stage| Box::pin(finite_stream(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-client-does-not-read",
        (
            "one client that stops reading must not hold a deploy until SIGKILL, which \
             closes nothing in order",
            "give the drain a deadline, drop what is left, report it, and exit with a code of \
             its own",
        ),
        &[Need::Big],
        |stage| Box::pin(does_not_read(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-stalled-upload",
        (
            "one client whose upload stalls must not hold a deploy until SIGKILL",
            "give the drain a deadline, drop what is left, report it, and exit with a code of \
             its own",
        ),
        &[Need::Echo],
        |stage| Box::pin(stalled_upload(stage)),
    ),
];

/// What the client does with its connection after the last answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// Closes it, as it was told.
    Leaves,
    /// Keeps it open.
    Stays,
}

/// A connection that says this and then nothing is closed soon after C.
pub(super) async fn silent(stage: &mut Stage, said: &[u8]) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire().await?;
    wire.send(said).await.during("saying less than a request")?;
    sleep(SETTLE).await;
    stage.stop()?;
    stage.exits_clean(stage.idle_end()).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn idle_keep_alive(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let wire = used(stage).await?;
    stage.stop()?;
    stage.exits_clean(stage.idle_end()).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn in_flight(stage: &mut Stage, left: Duration, afterwards: Afterwards) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = stage.wire().await?;
    wire.send(stage.get_work(left + SETTLE)).await.during("asking for work")?;
    sleep(SETTLE).await;
    stage.stop()?;
    let response = wire.response().await.during("work in flight")?;
    stage.note("the work in flight is answered");
    ok(&response, "work in flight")?;
    closes(&response, "work in flight")?;
    if afterwards == Afterwards::Leaves {
        drop(wire);
        return stage.exits_clean(left.max(stage.idle_end())).await;
    }
    let by = left.max(stage.subject.lame_duck) + stage.subject.idle_drain_timeout;
    stage.exits_clean(by).await?;
    drop(wire); // Held until here.
    Ok(())
}

async fn finite_stream(stage: &mut Stage) -> Result<(), Flaw> {
    // More than the buffers of both kernels hold, so that the server is at it across C.
    let length = 32 * MIB;
    stage.start(Setting::Plain).await?;
    let (mut wire, mut reader) = big(stage, length).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck + Duration::from_millis(300)).await;
    stage.note("reading on");
    let deadline = Instant::now() + stage.subject.request_timeout;
    let mut next_pause = 0;
    let doing = "reading a stream to its end";
    while !wire.advance(&mut reader, deadline).await.during(doing)? {
        if reader.so_far().is_some_and(|response| response.body_length() >= next_pause) {
            next_pause += 4 * MIB;
            sleep(SLOW_READ).await;
        }
    }
    drop(wire);
    let response = reader.into_response();
    let got = response.map(|response| (response.framing(), response.body_length()));
    stage.note("the stream is read to its end");
    ensure(got.is_some_and(|(framing, _)| framing != Framing::Eof), || {
        "the response has neither length nor chunks: whole or cut, nobody can tell".to_owned()
    })?;
    ensure(got.is_some_and(|(_, got)| got == length), || {
        format!("{got:?} of {length} bytes came")
    })?;
    let ended = stage.cause().elapsed();
    stage.exits_clean(ended.max(stage.idle_end())).await
}

async fn does_not_read(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let (wire, _reader) = big(stage, 64 * MIB).await?;
    stage.stop()?;
    let cut = stage.cuts(None).await?;
    drop(wire); // Held until here.
    let Cut::Untold { flaw, after } = cut else { return Ok(()) };
    // Is it the service's own limit for such a client? What it does without a signal tells.
    let again = async {
        stage.start(Setting::Plain).await?;
        big(stage, 64 * MIB).await
    };
    let (mut wire, mut reader) = match Box::pin(again).await {
        Ok(again) => again,
        Err(later) => return Err(later.or_rather(flaw)),
    };
    sleep(after + stage.subject.slack).await;
    let deadline = Instant::now() + stage.subject.request_timeout;
    loop {
        match wire.advance(&mut reader, deadline).await {
            Ok(false) => {}
            Err(error) if error.fate != Fate::TimedOut => break,
            Ok(true) | Err(_) => return Err(flaw),
        }
    }
    stage.note("without a signal too the service ends a client that does not read, as soon");
    Ok(())
}

async fn stalled_upload(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = part_of_an_upload(stage).await?;
    stage.stop()?;
    let (flaw, after) = match stage.cuts(Some(&mut wire)).await? {
        Cut::Told => return Ok(()),
        Cut::Answered { status, after } => {
            stage.note(format!("the upload was given up: answered {status} after {}", ms(after)));
            return Ok(());
        }
        Cut::Untold { flaw, after } => (flaw, after),
    };
    // Is it the service's own limit for such a client? What it does without a signal tells.
    let again = async {
        stage.start(Setting::Plain).await?;
        part_of_an_upload(stage).await
    };
    let mut wire = match Box::pin(again).await {
        Ok(wire) => wire,
        Err(later) => return Err(later.or_rather(flaw)),
    };
    if wire.hangup(after + stage.subject.slack).await == Hangup::StillOpen {
        return Err(flaw);
    }
    stage.note("without a signal too the service ends a stalled upload, as soon");
    Ok(())
}

async fn part_of_an_upload(stage: &Stage) -> Result<Wire, Flaw> {
    let mut wire = stage.wire().await?;
    let path = stage.subject.routes.echo.clone().unwrap_or_default();
    let part = wire.request("POST", &path, Some(10)) + "abc";
    wire.send(part).await.during("sending a part of an upload")?;
    sleep(SETTLE).await;
    Ok(wire)
}

/// A kept connection on which one request has been answered. Skips where none is kept.
pub(super) async fn used(stage: &mut Stage) -> Result<Wire, Flaw> {
    let mut wire = stage.wire().await?;
    let response = wire.get(&stage.subject.routes.quick_path()).await;
    let response = response.during("a first request")?;
    stage.learn(response.status(), "a first request")?;
    if response.closes() {
        // Then none can be closed under its client either.
        let told = "no connection is kept: the first response says `Connection: close`";
        return Err(Flaw::Skip(told.to_owned()));
    }
    Ok(wire)
}

/// A big response whose head has been read, and no more.
async fn big(stage: &Stage, length: u64) -> Result<(Wire, Reader), Flaw> {
    let template = stage.subject.routes.big.clone().unwrap_or_default();
    let mut wire = stage.wire().await?;
    let ask = wire.request("GET", &sized(&template, length), None);
    wire.send(ask).await.during("asking for a big response")?;
    let mut reader = Reader::new();
    wire.head(&mut reader).await.during("the head of a big response")?;
    let status = reader.so_far().map(crate::client::Response::status);
    ensure(status == Some(200), || format!("a big response: answered {status:?}"))?;
    sleep(SETTLE).await;
    Ok((wire, reader))
}

pub(super) const HALF_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: dr";
const SLOW_READ: Duration = Duration::from_millis(50);
const MIB: u64 = 1024 * 1024;
