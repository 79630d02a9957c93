//! Requests and connections that come after the signal, or after the listener's close.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    client::{Fate, Hangup, Wire},
    flaw::{During as _, Flaw, closes, ensure, ok},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    scenarios::{http1::used, http1_edges::is_clean_end, signals::SETTLE},
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 5] = [
    Scenario::new(
        Theme::Http1,
        "http1-idle-reuse-lame-duck",
        (
            "balancers go on using their pooled connections for seconds: each such request \
             must be answered, and told that it was the last",
            "serve through the lame duck and send `Connection: close` with every answer",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(idle_reuse_in_lame_duck(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-idle-reuse-after-close",
        (
            "a connection that was silent for long is closed at the drain: by FIN, which a \
             pool notices before it sends, not by RST or by letting it hang",
            "close idle connections in order when the listener closes",
        ),
        &[Need::Work],
        |stage| Box::pin(idle_reuse_after_close(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-new-connections-lame-duck",
        (
            "a balancer that has not noticed yet sends new connections: refused, each is a \
             failed request for a user",
            "keep the listener open for the lame duck",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(new_connections(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-connect-refused-after-close",
        (
            "after the lame duck a new connection must fail at once, as a refusal is safe to \
             repeat elsewhere; one that is accepted and dropped is not",
            "close the listening socket itself when the drain begins, not only the accept loop",
        ),
        &[Need::Work],
        |stage| Box::pin(refused_after_close(stage)),
    ),
    Scenario::new(
        Theme::Http1,
        "http1-early-answer",
        (
            "an answer that is given before the body was read (404, 413, 503) is erased if the \
             server closes with unread bytes: the client sees a reset instead",
            "after an early answer read the body and throw it away up to a bound, or half-close \
             and read on for a moment",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(early_answer(stage)),
    ),
];

async fn idle_reuse_in_lame_duck(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = used(stage).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck / 2).await;
    let response = wire.get(&stage.subject.routes.quick_path()).await;
    let response = response.during("a request on a kept connection in the lame duck")?;
    stage.served(response.status(), "a request on a kept connection in the lame duck")?;
    closes(&response, "a request on a kept connection in the lame duck")?;
    let hangup = wire.hangup(stage.subject.slack).await;
    ensure(hangup == Hangup::Eof, || {
        format!("after the answer that said close, the connection: {hangup:?}")
    })?;
    stage.exits_clean(stage.idle_end()).await
}

async fn idle_reuse_after_close(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let mut wire = used(stage).await?;
    // Silent for longer than the idle timeout when the listener closes.
    let silence = stage.subject.idle_drain_timeout.saturating_sub(stage.subject.lame_duck);
    sleep(silence).await;
    let (holder, time) = hold(stage).await?;
    stage.stop()?;
    stage.listener_closed().await?;
    sleep(AFTER_CLOSE).await;
    match wire.hangup(Duration::from_millis(1)).await {
        Hangup::Eof => stage.note("the silent connection was closed in order"),
        Hangup::Reset => return Err(Flaw::Seen("the silent connection was reset".to_owned())),
        Hangup::StillOpen => {
            let path = stage.subject.routes.quick_path();
            let fate = Wire::fate(&wire.get(&path).await);
            stage.note(format!("a request on the silent connection: {fate}"));
            ensure(fate.is_answered() || is_clean_end(fate), || {
                format!("a request on a connection silent for long: {fate}")
            })?;
        }
    }
    answered(holder).await?;
    stage.exits_clean(time.max(stage.idle_end())).await
}

async fn new_connections(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    stage.learn_quick().await?;
    let path = stage.subject.routes.quick_path();
    stage.stop()?;
    let until = stage.subject.lame_duck.saturating_sub(CLOSE_MARGIN);
    let told_by = (SIGNAL_SEEN + stage.subject.slack).min(stage.subject.lame_duck / 2);
    let mut count = 0;
    while stage.cause().elapsed() < until {
        let since = stage.cause().elapsed();
        let mut wire = stage.wire().await?;
        let response = wire.get(&path).await.during("a new connection in the lame duck")?;
        stage.served(response.status(), "a new connection in the lame duck")?;
        if since > told_by {
            closes(&response, "a new connection in the lame duck")?;
        }
        count += 1;
        sleep(Duration::from_millis(10)).await;
    }
    stage.note(format!("{count} new connections were served"));
    stage.exits_clean(stage.idle_end()).await
}

async fn refused_after_close(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    let (holder, time) = hold(stage).await?;
    stage.stop()?;
    stage.listener_closed().await?;
    for _ in 0..10 {
        let address = stage.process()?.address();
        let connected = Wire::connect(address, stage.subject.request_timeout).await;
        let fate = connected.err().map(|error| error.fate);
        ensure(fate == Some(Fate::Refused), || match fate {
            None => "a new connection was taken after the listener had closed".to_owned(),
            Some(fate) => format!("a new connection after the close: {fate}, not refused"),
        })?;
        sleep(Duration::from_millis(20)).await;
    }
    answered(holder).await?;
    stage.exits_clean(time.max(stage.idle_end())).await
}

async fn early_answer(stage: &mut Stage) -> Result<(), Flaw> {
    stage.start(Setting::Plain).await?;
    stage.stop()?;
    stage.at(stage.subject.lame_duck / 2).await;
    let mut wire = stage.wire().await?;
    let response = wire.post(NO_SUCH_PATH, &vec![b'x'; 2 * 1024 * 1024]).await;
    let response = response.during("a large POST that is answered without reading it")?;
    stage.note(format!("answered {}, {} bytes", response.status(), response.body_length()));
    drop(wire);
    if response.status() < 400 {
        let seen = format!("POST {NO_SUCH_PATH}: answered {}", response.status());
        return Err(Flaw::Skip(format!("{seen}: no answer is known to come before the body")));
    }
    stage.exits_clean(stage.idle_end()).await
}

/// A request that keeps the process alive for a while after C, and how long it takes.
async fn hold(stage: &Stage) -> Result<(Wire, Duration), Flaw> {
    let time = stage.subject.lame_duck + Duration::from_secs(1);
    let mut holder = stage.wire().await?;
    holder.send(stage.get_work(time)).await.during("asking for work")?;
    sleep(SETTLE).await;
    Ok((holder, time))
}

/// The answer to [`hold`], after which the client leaves.
async fn answered(mut holder: Wire) -> Result<(), Flaw> {
    let response = holder.response().await.during("work in flight")?;
    ok(&response, "work in flight")
}

const AFTER_CLOSE: Duration = Duration::from_millis(300);
const CLOSE_MARGIN: Duration = Duration::from_millis(100);
const NO_SUCH_PATH: &str = "/lifecycle-drill/no-such-path";
/// A signal needs a moment to be noticed by the connections.
const SIGNAL_SEEN: Duration = Duration::from_millis(100);
