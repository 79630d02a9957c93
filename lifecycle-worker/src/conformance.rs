//! The checks that every queue passes, ours or a user's.
//!
//! Not here: a test framework, servers. What a queue cannot do it does not declare, and what it
//! declares is held against it: a capability that is declared and not kept fails, and one that
//! is kept and not declared fails too where that can be seen.
//!
//! # Invariants
//! 1. Every wait is bounded, by the queue's own bounds or by the suite's.
//! 2. Every check has a queue of its own, so that one fault is one line of the report: what fails
//!    because of another check's failure is skipped, and says so.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! use lifecycle_worker::{MemoryQueue, conformance};
//!
//! let report = conformance::suite(async |setting| {
//!     let queue = MemoryQueue::new(setting.name).lease(setting.lease);
//!     let other = queue.claimant();
//!     Ok((queue, other))
//! })
//! .await;
//! report.assert_passed();
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```

mod basics;
mod bench;
mod capable;
mod close;
mod fence;
mod interrupt;
mod lease;
mod many;
mod pace;
mod release;
mod report;
mod settle;

use std::future::Future;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::report::{Outcome, Report, Verdict};

use self::bench::{Bench, Checked, Stop};
use self::pace::Pace;
use crate::error::{BoxError, chain};
use crate::queue::Queue;

/// What the queue of one check is to be like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// A name that no other queue of any run has: letters, digits and underscores, 40 at most.
    pub name: String,
    /// The lease's period, where it can be chosen: a second or three, or more where it is not to end.
    pub lease: Duration,
}

/// Runs a queue through all checks, some at a time.
///
/// `setup` makes an empty, prepared queue: two claiming identities on the same jobs, as two
/// processes have. It is called once a check, and the suite closes both. What it leaves at the
/// broker is the caller's to remove. A queue of no delay is through in about ten seconds.
///
/// It needs a tokio runtime with time, and works in paused time where the queue does.
///
/// # Cancel safety
/// Cancel safe: dropping it ends the checks where they are; their jobs stay at the broker.
pub async fn suite<Q: Queue>(setup: impl AsyncFn(Setting) -> Result<(Q, Q), BoxError>) -> Report {
    let checks = stream::iter(checks::<Q>());
    let verdicts = checks.map(|check| run(check, &setup)).buffered(AT_ONCE);
    let verdicts: Vec<_> = verdicts.collect().await;
    Report::new(verdicts, needs)
}

async fn run<Q: Queue>(
    check: Check<Q>,
    setup: &impl AsyncFn(Setting) -> Result<(Q, Q), BoxError>,
) -> Verdict {
    let pace = Pace::default();
    let mut outcome = run_with(&check, check.lease, &pace, setup).await;
    let is_slow = check.may_be_slow && pace.longest() >= check.lease / 10;
    if is_slow && matches!(outcome, Outcome::Failed(_)) {
        outcome = run_with(&check, 3 * check.lease, &pace, setup).await;
    }
    Verdict::new(check.name, outcome)
}

async fn run_with<Q: Queue>(
    check: &Check<Q>,
    lease: Duration,
    pace: &Pace,
    setup: &impl AsyncFn(Setting) -> Result<(Q, Q), BoxError>,
) -> Outcome {
    let name = format!("{}_{:08x}", check.name, fastrand::u32(..));
    match timeout(CHECK_LONGEST, setup(Setting { name, lease })).await {
        Err(_) => Outcome::Failed(format!("no queue within {} s", CHECK_LONGEST.as_secs())),
        Ok(Err(error)) => Outcome::Failed(format!("no queue: {}", chain(error.as_ref()))),
        Ok(Ok((first, second))) => judge(&check.run, Bench::new(first, second, pace), pace).await,
    }
}

/// Runs one check on a task of its own, so that a panic of the queue is a failure of the check.
async fn judge<Q: Queue>(run: &Run<Q>, bench: Bench<Q>, pace: &Pace) -> Outcome {
    let mut tasks = JoinSet::new();
    let checked = bench.clone();
    let running = run(bench);
    tasks.spawn(async move {
        let outcome = running.await;
        checked.close().await;
        outcome
    });
    let joined = tokio::select! {
        joined = timeout(CHECK_LONGEST, tasks.join_next()) => joined,
        never = pace.look() => match never {},
    };
    match joined {
        Err(_) => Outcome::Failed(format!("not through within {} s", CHECK_LONGEST.as_secs())),
        Ok(None) => Outcome::Failed("did not run".into()),
        Ok(Some(Err(error))) => Outcome::Failed(format!("panicked: {error}")),
        Ok(Some(Ok(Ok(())))) => Outcome::Passed,
        Ok(Some(Ok(Err(Stop::Failed(seen))))) => Outcome::Failed(seen),
        Ok(Some(Ok(Err(Stop::Skipped(why))))) => Outcome::Skipped(why),
    }
}

/// One check: its name, and what it does with a queue of its own.
struct Check<Q> {
    name: &'static str,
    lease: Duration,
    /// Whether it can fail since its lease is too short for the machine.
    may_be_slow: bool,
    run: Run<Q>,
}

type Run<Q> =
    Box<dyn Fn(Bench<Q>) -> futures_util::future::BoxFuture<'static, Checked> + Send + Sync>;

fn check<Q: Queue, F>(name: &'static str, run: fn(Bench<Q>) -> F) -> Check<Q>
where
    F: Future<Output = Checked> + Send + 'static,
{
    let run: Run<Q> = Box::new(move |bench| Box::pin(run(bench)));
    Check { name, lease: LONG_LEASE, may_be_slow: false, run }
}

impl<Q> Check<Q> {
    /// With a lease that the check may have to wait for the end of.
    fn lease(self, lease: Duration) -> Self {
        Self { lease, may_be_slow: true, ..self }
    }

    /// Once, whatever it finds: a race may not show again.
    fn once(self) -> Self {
        Self { may_be_slow: false, ..self }
    }
}

/// All checks; those that take long come first, so that the rest runs beside them.
fn checks<Q: Queue>() -> Vec<Check<Q>> {
    vec![
        check("extend", lease::extend).lease(SHORT_LEASE),
        check("lease_end", lease::lease_end).lease(SHORT_LEASE),
        check("fence", fence::fence).lease(2 * SHORT_LEASE),
        check("settle_twice", fence::settle_twice),
        check("checkpoint", capable::checkpoint).lease(SHORT_LEASE),
        check("fail_dead", settle::fail_dead).lease(SHORT_LEASE),
        check("stats", capable::stats).lease(3 * SHORT_LEASE),
        check("interrupt_race", interrupt::interrupt_race).lease(3 * SHORT_LEASE).once(),
        check("concurrent_claims", many::concurrent_claims),
        check("names", basics::names),
        check("push_claim_ack", basics::push_claim_ack),
        check("batches", basics::batches),
        check("payloads", basics::payloads_kept),
        check("claim_wait", basics::claim_wait),
        check("push_wakes_claim", basics::push_wakes_claim),
        check("release", release::release),
        check("release_wakes_claim", release::release_wakes_claim),
        check("release_place", release::release_place),
        check("release_delay", release::release_delay),
        check("reclaim_fences", fence::reclaim_fences),
        check("mixed_receipts", fence::mixed_receipts),
        check("fail_retry", settle::fail_retry),
        check("dead_letters", capable::dead_letters),
        check("dedupe", capable::dedupe),
        check("delay", capable::delay),
        check("priority", capable::priority),
        check("interrupt", interrupt::interrupt),
        check("many_receipts", many::many_receipts),
        check("close", close::close),
    ]
}

/// Whose failure explains a failure of that check.
fn needs(check: &str) -> &'static [&'static str] {
    match check {
        "names" | "push_claim_ack" => &[],
        "checkpoint" | "fence" => &["push_claim_ack", "lease_end", "release"],
        "interrupt" => &["push_claim_ack", "claim_wait"],
        "many_receipts" | "reclaim_fences" | "release_delay" => &["push_claim_ack", "release"],
        "mixed_receipts" => &["push_claim_ack", "release", "fence"],
        "dead_letters" | "dedupe" | "payloads" | "priority" => &["push_claim_ack", "batches"],
        "push_wakes_claim" => &["push_claim_ack", "claim_wait"],
        "release_place" => &["push_claim_ack", "release", "batches"],
        "release_wakes_claim" => &["push_claim_ack", "release", "claim_wait", "push_wakes_claim"],
        "settle_twice" => &["push_claim_ack", "release", "fail_retry"],
        "stats" => &["push_claim_ack", "release", "delay", "fail_retry", "fail_dead", "lease_end"],
        _ => &["push_claim_ack"],
    }
}

/// Short for those who wait for its end, and more than a slow broker takes to settle.
const SHORT_LEASE: Duration = Duration::from_secs(1);
/// For the others, whose jobs stay theirs on a busy machine.
const LONG_LEASE: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 10;
/// A queue that answers within its bounds is through with any check long before.
const CHECK_LONGEST: Duration = Duration::from_secs(120);
