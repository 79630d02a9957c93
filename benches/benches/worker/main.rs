//! Jobs a second: the worker beside a loop of the same shape on the same queue, and beside
//! apalis; and what of the processor a job costs.
//!
//! Brokers are private processes without a disk to wait for (`places`), so that what is
//! compared is what each side does, not what the disk does.
#![allow(clippy::print_stdout, reason = "the table is what a bench is run for")]

mod counted;
mod peers;
mod places;
mod sides;

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use benches::{
    Asked, Broken, Contest, Goal, Promise, Side, Subject, Wanted, Work, asked, compete,
    instructions, locked,
};
use lifecycle_worker::MemoryQueue;
use tokio::runtime::{Builder, Runtime};

use places::{Place, Sqlite, filled, memory};

fn main() -> ExitCode {
    let subjects = subjects();
    let wanted = match asked(&subjects) {
        Asked::Done(code) => return code,
        Asked::Measure(wanted) => wanted,
    };
    let on_postgres: Peer<_> =
        |on, at, jobs, at_a_time| on.block_on(peers::on_postgres(at, jobs, at_a_time));
    let on_redis: Peer<_> =
        |on, at, jobs, at_a_time| on.block_on(peers::on_redis(at, jobs, at_a_time));
    let of_all = [
        in_memory(&wanted),
        on_a_broker::<Sqlite>(&wanted, None),
        on_a_broker(&wanted, Some(("apalis-postgres", on_postgres))),
        on_a_broker(&wanted, Some(("apalis-redis", on_redis))),
    ];
    let has_counted = count(&subjects);
    if has_counted && of_all.into_iter().all(|is_whole| is_whole) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// apalis on a broker.
type Peer<P> = fn(&Runtime, &P, u64, usize) -> benches::Took;

/// Starts a broker if it is wanted, and measures there; whether nobody broke.
fn on_a_broker<P: Place>(wanted: &Wanted, peer: Option<(&str, Peer<P>)>) -> bool {
    let name = |at_a_time: usize| format!("{}, {at_a_time}", P::NAME);
    if !AT_A_TIME.into_iter().any(|at_a_time| wanted.is_wanted(&name(at_a_time))) {
        return true;
    }
    let title = format!("{TITLE}, {}", P::NAME);
    let runtime = Rc::new(two_threads());
    let place = match Broken::attempt(P::NAME, || runtime.block_on(Box::pin(P::start()))) {
        Ok(place) => Rc::new(place),
        Err(broken) => {
            eprintln!("error: it did not start: {broken}");
            println!("### {title}\n\nNot measured: {broken}.\n");
            return false;
        }
    };
    let mut crates = CRATES.to_vec();
    crates.extend(peer.iter().flat_map(|(name, _)| ["apalis", *name]));
    let with = format!("{}, {}", locked(&crates), place.setting());
    let peer = peer.map(|(_, peer)| peer);
    let contest = |at_a_time| contest_on(name(at_a_time), &runtime, &place, peer, at_a_time);
    compete_of(&title, &with, AT_A_TIME.map(contest).into(), wanted)
}

/// The worker, the loops and perhaps a peer on one broker.
fn contest_on<P: Place>(
    name: String,
    runtime: &Rc<Runtime>,
    place: &Rc<P>,
    peer: Option<Peer<P>>,
    at_a_time: usize,
) -> Contest {
    let jobs = P::JOBS[usize::from(at_a_time > 1)];
    let (on, at) = (runtime.clone(), place.clone());
    let ours = Side::new(OURS, move || {
        on.block_on(async { sides::worker(filled(&*at, jobs).await, jobs, at_a_time).await })
    });
    let (on, at) = (runtime.clone(), place.clone());
    let bare = Side::new(BARE, move || {
        on.block_on(async { sides::bare(filled(&*at, jobs).await, jobs, at_a_time).await })
    });
    let (on, at) = (runtime.clone(), place.clone());
    let ahead = Side::new(AHEAD, move || {
        on.block_on(async { sides::bare_ahead(filled(&*at, jobs).await, jobs, at_a_time).await })
    });
    let (mut sides, mut goals) = (vec![ours, bare, ahead], vec![Goal::AtLeast(0.9, LOOPS)]);
    if let Some(peer) = peer {
        let (on, at) = (runtime.clone(), place.clone());
        sides.push(Side::new(PEER, move || peer(&on, &at, jobs, at_a_time)));
        goals.push(Goal::AtLeast(2.0, PEERS));
    }
    Contest::new(name, sides, goals).shows(promise)
}

/// On two threads and on one, and on one with leases to extend; whether nobody broke.
fn in_memory(wanted: &Wanted) -> bool {
    let one = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (one, two) = (Rc::new(one), Rc::new(two_threads()));
    let mut contests = Vec::new();
    for (threads, runtime) in [("1 thread", &one), ("2 threads", &two)] {
        for at_a_time in AT_A_TIME {
            let on = runtime.clone();
            let ours = Side::new(OURS, move || {
                on.block_on(async { sides::worker(memory(JOBS).await, JOBS, at_a_time).await })
            });
            let name = format!("memory, {threads}, {at_a_time}");
            contests.push(contest_in_memory(name, runtime, ours, JOBS, at_a_time));
        }
    }
    let on = one.clone();
    let ours = Side::new(OURS, move || {
        on.block_on(async {
            let queue = memory(JOBS_BESIDE_HELD).await.lease(LEASE);
            sides::worker_with_held(queue, JOBS_BESIDE_HELD, 50, HELD).await
        })
    });
    let name = format!("memory, 1 thread, 50, beside {HELD} held with a lease of {LEASE:?}");
    contests.push(contest_in_memory(name, &one, ours, JOBS_BESIDE_HELD, 50));
    compete_of(&format!("{TITLE}, memory"), &locked(&CRATES[..2]), contests, wanted)
}

/// Ours and the loops.
fn contest_in_memory(
    name: String,
    runtime: &Rc<Runtime>,
    ours: Side,
    jobs: u64,
    at_a_time: usize,
) -> Contest {
    let on = runtime.clone();
    let bare = Side::new(BARE, move || {
        on.block_on(async { sides::bare(memory(jobs).await, jobs, at_a_time).await })
    });
    let on = runtime.clone();
    let ahead = Side::new(AHEAD, move || {
        on.block_on(async { sides::bare_ahead(memory(jobs).await, jobs, at_a_time).await })
    });
    let goals = vec![Goal::AtLeast(0.9, LOOPS), Goal::ProcessorAtMost(2.0)];
    Contest::new(name, vec![ours, bare, ahead], goals).shows(promise)
}

fn compete_of(title: &str, with: &str, mut contests: Vec<Contest>, wanted: &Wanted) -> bool {
    contests.retain(|contest| wanted.is_wanted(contest.name()));
    contests.is_empty() || compete(title, with, contests, wanted.rounds(ROUNDS, ROUNDS_SHORT))
}

fn two_threads() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

fn promise(goal: &Goal) -> Option<Promise> {
    Some(match goal {
        Goal::AtLeast(_, PEERS) => Promise::JobsOfPeers,
        Goal::AtLeast(..) => Promise::Jobs,
        Goal::ProcessorAtMost(_) => Promise::Processor,
    })
}

/// What callgrind is shown. All push; the first does nothing else.
fn subjects() -> Vec<Subject> {
    fn on_one_thread(side: fn(&Runtime, MemoryQueue, u64)) -> Work {
        Arc::new(move |times| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let queue = runtime.block_on(memory(times));
            side(&runtime, queue, times);
        })
    }
    vec![
        Subject::new(PUSH, || on_one_thread(|_, _, _| ())),
        Subject::new(BARE, || {
            on_one_thread(|runtime, queue, jobs| {
                runtime.block_on(sides::bare(queue, jobs, 50));
            })
        }),
        Subject::new(OURS, || {
            on_one_thread(|runtime, queue, jobs| {
                runtime.block_on(sides::worker(queue, jobs, 50));
            })
        }),
        Subject::new(BARE_ONE, || {
            on_one_thread(|runtime, queue, jobs| {
                runtime.block_on(sides::bare(queue, jobs, 1));
            })
        }),
        Subject::new(OURS_ONE, || {
            on_one_thread(|runtime, queue, jobs| {
                runtime.block_on(sides::worker(queue, jobs, 1));
            })
        }),
    ]
}

/// Prints the instructions a job, the push taken off; whether they could be counted.
fn count(subjects: &[Subject]) -> bool {
    let counted = match instructions(subjects) {
        Ok(counted) => counted,
        Err(error) => {
            eprintln!("error: instructions were not counted: {error}");
            return false;
        }
    };
    println!("| memory, 1 thread, 50 at a time | instructions a job |\n|---|---|");
    for (name, count) in [BARE, OURS, BARE_ONE, OURS_ONE].into_iter().zip(&counted[1..]) {
        println!("| {name} | {:.0} |", count - counted[0]);
    }
    true
}

const TITLE: &str = "worker: jobs a second";
const CRATES: [&str; 4] = ["lifecycle-worker", "tokio", "redis", "sqlx"];
const OURS: &str = "worker";
const BARE: &str = "bare loop";
const OURS_ONE: &str = "worker, one at a time";
const BARE_ONE: &str = "bare loop, one at a time";
const AHEAD: &str = "bare loop with acks aside";
const PEER: &str = "apalis";
const LOOPS: &[&str] = &[BARE, AHEAD];
const PEERS: &[&str] = &[PEER];
const PUSH: &str = "push";
const AT_A_TIME: [usize; 3] = [1, 50, 500];
const ROUNDS: usize = 11;
const ROUNDS_SHORT: usize = 1;
/// In memory.
const JOBS: u64 = 100_000;
/// Enough for a round of several leases.
const JOBS_BESIDE_HELD: u64 = 500_000;
const HELD: u64 = 100;
/// So long that a machine that stands still for a moment loses none.
const LEASE: Duration = Duration::from_millis(300);
