//! Requests lost in stops under load, counted over many stops.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    load_account::Account,
    load_clients::{Manner, Plan, finish, start},
};
use crate::{
    client::{H2c, Peer},
    flaw::{During as _, Flaw, ms},
    process::Setting,
    scenario::{Need, Scenario, Theme},
    stage::Stage,
};

pub(super) const SCENARIOS: [Scenario; 4] = [
    Scenario::new(
        Theme::Load,
        "load-keep-alive",
        (
            "a client that always has its next request on the wire meets the close of its \
             connection with that request: without `Connection: close` beforehand every such \
             client loses one in every deploy",
            "a lame duck that serves and sends `Connection: close`, then sweep the accept queue \
             before the listener is closed",
        ),
        &[],
        |stage| Box::pin(stops(stage, 64, Manner::KeepAlive(Duration::ZERO), Stops::All)),
    )
    .repeated(),
    Scenario::new(
        Theme::Load,
        "load-keep-alive-think",
        (
            "clients that pause between requests race the close of their idle connection",
            "a lame duck longer than the pauses, with `Connection: close` on every answer",
        ),
        &[Need::LameDuck],
        |stage| Box::pin(stops(stage, 64, Manner::KeepAlive(THINK), Stops::Third)),
    )
    .repeated(),
    Scenario::new(
        Theme::Load,
        "load-http2",
        (
            "every stream at or below the last id of GOAWAY was promised an answer; those \
             above can be repeated",
            "two-step GOAWAY: the highest id first, the true last id a round trip later",
        ),
        &[Need::H2c],
        |stage| Box::pin(stops(stage, 32, Manner::H2c(2), Stops::All)),
    )
    .repeated(),
    Scenario::new(
        Theme::Load,
        "load-connect-race",
        (
            "closing a listener resets every connection in its accept queue, though their \
             requests may have been sent already",
            "accept until nothing is left in the queue, then close the listener",
        ),
        &[],
        |stage| Box::pin(stops(stage, 32, Manner::OneEach, Stops::All)),
    )
    .repeated(),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    All,
    Third,
}

async fn stops(stage: &mut Stage, clients: u32, manner: Manner, stops: Stops) -> Result<(), Flaw> {
    let count = match stops {
        Stops::All => stage.subject.stop_count.max(1),
        Stops::Third => stage.subject.stop_count.div_ceil(3).max(1),
    };
    let mut sum = Account::default();
    let mut quick_status = 0;
    let mut longest = Duration::ZERO;
    for number in 1..=count {
        // What was seen to be lost stays lost, whatever keeps the next from being judged.
        let so_far = |flaw: Flaw, sum: &Account| match sum.judge(quick_status, number - 1) {
            Err(earlier) if number > 1 => flaw.or_rather(earlier),
            _ => flaw,
        };
        let stop = match one_stop(stage, clients, manner).await {
            Ok(stop) => stop,
            Err(flaw) => return Err(so_far(flaw, &sum)),
        };
        let judged = stop.account.can_be_judged().map_err(|flaw| so_far(flaw, &sum));
        quick_status = stop.quick_status;
        let drain = ms(stop.drain);
        stage.note(format!("stop {number}: gone after {drain}; {}", stop.account.all));
        longest = longest.max(stop.drain);
        sum.merge(&stop.account);
        // Kept at once: a later failure to stop must not hide what was counted.
        stage.ledger = Some(sum.all.clone());
        judged?;
        stop.exit
            .map_err(|flaw| Flaw::Seen(format!("stop {number}: {flaw}; so far {}", sum.all)))?;
    }
    stage.note(format!("{count} stops, the longest took {}: {}", ms(longest), sum.all));
    sum.judge(quick_status, count)
}

/// What one stop has shown.
struct Stop {
    account: Account,
    /// Of the quick route, before the load.
    quick_status: u16,
    drain: Duration,
    exit: Result<(), Flaw>,
}

async fn one_stop(stage: &mut Stage, clients: u32, manner: Manner) -> Result<Stop, Flaw> {
    stage.start(Setting::Plain).await?;
    let quick_status = match manner {
        Manner::KeepAlive(_) | Manner::OneEach => stage.learn_quick().await?,
        Manner::H2c(_) => {
            let peer = Peer { tracer: None, ..stage.peer()? };
            let client = H2c::connect(&peer, stage.subject.request_timeout).await;
            let client = client.during("connecting with HTTP/2")?;
            stage.learn_quick_on(&client).await?
        }
    };
    let (tell, cause) = watch::channel(None);
    let plan = Plan {
        peer: stage.peer()?,
        path: stage.subject.routes.quick_path(),
        manner,
        limit: stage.subject.request_timeout,
        cause,
        lame_duck: stage.subject.lame_duck.saturating_sub(CLOSE_MARGIN),
        deadline: Instant::now() + WARM_UP + stage.subject.grace + stage.subject.slack,
    };
    // Dropped on an early return, which ends the clients.
    let running = start(&plan, clients);
    sleep(WARM_UP).await;
    // Told before it is sent, so that no answer to it is taken for one of before.
    tell.send_replace(Some(Instant::now()));
    let cause = stage.stop()?;
    // The machine is busy with the load itself: one more second.
    let exit = stage.exits_clean(stage.idle_end() + BUSY).await;
    let drain = stage
        .process()?
        .exit()
        .map_or_else(|| cause.elapsed(), |exit| exit.at.saturating_duration_since(cause));
    Ok(Stop { account: finish(running).await, quick_status, drain, exit })
}

const WARM_UP: Duration = Duration::from_millis(300);
const THINK: Duration = Duration::from_millis(2);
/// Its clock and ours differ, and a busy machine tells late that a connect has failed.
const CLOSE_MARGIN: Duration = Duration::from_millis(100);
const BUSY: Duration = Duration::from_secs(1);
