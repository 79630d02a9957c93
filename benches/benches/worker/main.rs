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

use benches::{
    Asked, Contest, Goal, Promise, Side, Subject, Work, asked, compete, instructions, locked,
};
use lifecycle_worker::MemoryQueue;
use tokio::runtime::{Builder, Runtime};

use places::{Place, Postgres, Redis, Sqlite, filled, memory};

fn main() -> ExitCode {
    let subjects = subjects();
    let (rounds, only) = match asked(&subjects) {
        Asked::Done(code) => return code,
        Asked::Measure { rounds, only } => (rounds.unwrap_or(ROUNDS), only),
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = Rc::new(runtime.expect("a runtime"));
    let (redis, postgres) =
        runtime.block_on(async { (Redis::start().await, Box::pin(Postgres::start()).await) });
    let with = format!(
        "{}, {}, {}",
        locked(&[
            "lifecycle-worker",
            "tokio",
            "redis",
            "sqlx",
            "apalis",
            "apalis-redis",
            "apalis-postgres"
        ]),
        redis.version(),
        postgres.version()
    );
    let mut contests = memory_contests(&runtime);
    contests.extend(contests_of(&runtime, &Rc::new(Sqlite::new()), None));
    let (postgres, redis) = (Rc::new(postgres), Rc::new(redis));
    contests.extend(contests_of(
        &runtime,
        &postgres,
        Some(|on, at, jobs, at_a_time| on.block_on(peers::on_postgres(at, jobs, at_a_time))),
    ));
    contests.extend(contests_of(
        &runtime,
        &redis,
        Some(|on, at, jobs, at_a_time| on.block_on(peers::on_redis(at, jobs, at_a_time))),
    ));
    compete("worker: jobs a second", &with, &contests, rounds, only.as_deref());
    count(&subjects)
}

type Peer<P> = fn(&Runtime, &P, u64, usize) -> benches::Took;

/// The worker, the loop and perhaps a peer on one broker.
fn contests_of<P: Place>(
    runtime: &Rc<Runtime>,
    place: &Rc<P>,
    peer: Option<Peer<P>>,
) -> Vec<Contest> {
    let contest = |at_a_time: usize| {
        let jobs = P::JOBS[usize::from(at_a_time > 1)];
        let (on, at) = (runtime.clone(), place.clone());
        let ours = Side::new(OURS, move || {
            on.block_on(async { sides::worker(filled(&*at, jobs).await, jobs, at_a_time).await })
        });
        let (on, at) = (runtime.clone(), place.clone());
        let bare = Side::new(BARE, move || {
            on.block_on(async { sides::bare(filled(&*at, jobs).await, jobs, at_a_time).await })
        });
        let (mut sides, mut goals) = (vec![ours, bare], vec![Goal::AtLeast(0.9, BARE)]);
        if let Some(peer) = peer {
            let (on, at) = (runtime.clone(), place.clone());
            // More than 8 000 due jobs stop a worker of apalis-redis.
            let jobs = jobs.min(7_000);
            sides.push(Side::new(PEER, move || peer(&on, &at, jobs, at_a_time)));
            goals.push(Goal::AtLeast(2.0, PEER));
        }
        Contest::new(format!("{}, {at_a_time}", P::NAME), sides, goals).shows(promise)
    };
    AT_A_TIME.map(contest).into()
}

/// In memory, on two threads and on one.
fn memory_contests(two: &Rc<Runtime>) -> Vec<Contest> {
    let one = Rc::new(Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let mut contests = Vec::new();
    for (threads, runtime) in [("1 thread", &one), ("2 threads", two)] {
        for at_a_time in AT_A_TIME {
            let on = runtime.clone();
            let ours = Side::new(OURS, move || {
                on.block_on(async { sides::worker(memory(JOBS).await, JOBS, at_a_time).await })
            });
            let on = runtime.clone();
            let bare = Side::new(BARE, move || {
                on.block_on(async { sides::bare(memory(JOBS).await, JOBS, at_a_time).await })
            });
            let goals = vec![Goal::AtLeast(0.9, BARE), Goal::ProcessorAtMost(2.0)];
            let name = format!("memory, {threads}, {at_a_time}");
            contests.push(Contest::new(name, vec![ours, bare], goals).shows(promise));
        }
    }
    contests
}

fn promise(goal: &Goal) -> Option<Promise> {
    Some(match goal {
        Goal::AtLeast(_, PEER) => Promise::JobsOfPeers,
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
    ]
}

/// Prints the instructions a job, the push taken off.
fn count(subjects: &[Subject]) -> ExitCode {
    let counted = match instructions(subjects) {
        Ok(counted) => counted,
        Err(error) => {
            eprintln!("error: instructions were not counted: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("| memory, 1 thread, 50 | instructions a job |\n|---|---|");
    for (name, count) in [BARE, OURS].into_iter().zip(&counted[1..]) {
        println!("| {name} | {:.0} |", count - counted[0]);
    }
    ExitCode::SUCCESS
}

const OURS: &str = "worker";
const BARE: &str = "bare loop";
const PEER: &str = "apalis";
const PUSH: &str = "push";
const AT_A_TIME: [usize; 3] = [1, 50, 500];
const ROUNDS: usize = 11;
/// In memory.
const JOBS: u64 = 100_000;
