//! A shutdown told to many tasks that wait for it, until all of them have ended: beside
//! tokio-util and async-shutdown.
//!
//! Every side does what its documentation says: a task waits for the signal, and is counted from
//! before it is spawned until it ends. The clock starts when somebody asks for the shutdown; it
//! stops when `run` has returned its report (ours: close hooks and the report are in it), or when
//! the other side's own wait has.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_shutdown::ShutdownManager;
use benches::{Asked, Entrant, Promise, Race, Reach, asked, locked, production, race};
use lifecycle::{Handle, InFlight, Kind, Phase};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

fn main() -> ExitCode {
    let wanted = match asked(&[]) {
        Asked::Done(code) => return code,
        Asked::Measure(wanted) => wanted,
    };
    let one = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let two = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (one, two) = (Rc::new(one), Rc::new(two.expect("a runtime")));
    let mut races: Vec<_> = TASKS
        .into_iter()
        .flat_map(|tasks| [of("1 thread", &one, tasks), of("2 threads", &two, tasks)])
        .collect();
    let with = locked(&["lifecycle", "tokio", "tokio-util", "async-shutdown"]);
    races.retain(|race| wanted.is_wanted(race.name()));
    let rounds = wanted.rounds(ROUNDS, ROUNDS_SHORT);
    if race("broadcast: a shutdown told until all have ended", &with, races, rounds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn of(threads: &str, runtime: &Rc<Runtime>, tasks: usize) -> Race {
    let entrant = |name, run: fn(&Runtime, usize) -> Duration| {
        let runtime = runtime.clone();
        Entrant::new(name, move || run(&runtime, tasks))
    };
    let ours = vec![
        entrant("Gate::enter_unnamed", |runtime, tasks| {
            on_a_task(
                runtime,
                ours(tasks, |handle| {
                    let gate = handle.gate(Kind::Work);
                    Box::new(move || gate.enter_unnamed().expect("open"))
                }),
            )
        }),
        entrant("Handle::enter, named", |runtime, tasks| {
            on_a_task(
                runtime,
                ours(tasks, |handle| {
                    let handle = handle.clone();
                    Box::new(move || handle.enter("task").expect("open"))
                }),
            )
        }),
    ];
    let theirs = vec![
        entrant("CancellationToken, TaskTracker", |runtime, tasks| {
            on_a_task(runtime, tokio_util(tasks))
        }),
        entrant("ShutdownManager", |runtime, tasks| on_a_task(runtime, async_shutdown(tasks))),
    ];
    let race = Race::new(format!("{tasks} tasks, {threads}"), ours, theirs, REACH);
    race.shows(Promise::Broadcast)
}

/// Whoever asks and waits is a task like the others: the thread of `block_on` is none of a
/// runtime's workers, and all that it wakes would go to another thread.
fn on_a_task(runtime: &Runtime, side: impl Future<Output = Duration> + Send + 'static) -> Duration {
    let side = async { AbortOnDropHandle::new(tokio::spawn(side)).await };
    runtime.block_on(side).expect("it does not panic")
}

/// How a task is counted.
type Enter = Box<dyn Fn() -> InFlight + Send>;

/// As in production: with a control thread, which is who tells.
async fn ours(tasks: usize, entry: fn(&Handle) -> Enter) -> Duration {
    let life = production();
    let handle = life.handle();
    let running = tokio::spawn(life.run());
    handle.reached(Phase::Running).await;
    let (enter, waiting) = (entry(&handle), Waiting::for_all(tasks));
    for _ in 0..tasks {
        let (guard, handle, waiting) = (enter(), handle.clone(), waiting.clone());
        tokio::spawn(async move {
            waiting.one_more();
            handle.draining().await;
            drop(guard);
        });
    }
    waiting.until_all().await;
    let began = Instant::now();
    handle.shutdown("told");
    let report = running.await.expect("it does not panic").expect("it runs");
    let took = began.elapsed();
    assert_eq!(report.exit_code(), 0, "{report}");
    took
}

async fn tokio_util(tasks: usize) -> Duration {
    let (token, tracker, waiting) =
        (CancellationToken::new(), TaskTracker::new(), Waiting::for_all(tasks));
    for _ in 0..tasks {
        let (token, waiting) = (token.clone(), waiting.clone());
        tracker.spawn(async move {
            waiting.one_more();
            token.cancelled().await;
        });
    }
    tracker.close();
    waiting.until_all().await;
    let began = Instant::now();
    token.cancel();
    tracker.wait().await;
    began.elapsed()
}

async fn async_shutdown(tasks: usize) -> Duration {
    let (shutdown, waiting) = (ShutdownManager::<()>::new(), Waiting::for_all(tasks));
    for _ in 0..tasks {
        let (signal, waiting) = (shutdown.wait_shutdown_triggered(), waiting.clone());
        let counted = shutdown.wrap_delay_shutdown(async move {
            waiting.one_more();
            signal.await;
        });
        tokio::spawn(counted.expect("it has not ended"));
    }
    waiting.until_all().await;
    let began = Instant::now();
    shutdown.trigger_shutdown(()).expect("it was not told before");
    shutdown.wait_shutdown_complete().await;
    began.elapsed()
}

/// Tells when all tasks have come to their wait.
struct Waiting {
    left: AtomicUsize,
    all: Notify,
}

impl Waiting {
    fn for_all(tasks: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(tasks), all: Notify::new() })
    }

    fn one_more(&self) {
        // Ordering: Relaxed, `all` orders what has to be.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.notify_one();
        }
    }

    async fn until_all(&self) {
        timeout(LIMIT, self.all.notified()).await.expect("all tasks are polled");
    }
}

const TASKS: [usize; 2] = [10_000, 100_000];
const ROUNDS: usize = 21;
const ROUNDS_SHORT: usize = 1;
const REACH: Reach = Reach { at_most: 1.0, words: "at most 1.00" };
const LIMIT: Duration = Duration::from_secs(60);
