//! Queue consumers that stop without losing a job: [`Worker`], and the queues it takes them from.
//!
//! ```text
//! Running -> LameDuck -> Draining -> Cancelling -> Closing -> Stopped
//! claims,    quiet: no claims;       hard stop:    the queue is closed,
//! runs,      unstarted jobs go       told, dropped the report has what
//! settles    back at once; jobs      joined, given became of each job
//!            under way finish        back
//! leases are extended ...................................... until the last job is settled
//! ```
//!
//! # Quick start
//!
//! Connect to a queue, hand it to a [`Worker`] with what works on its jobs, and spawn that as a
//! component of a [`lifecycle::Lifecycle`].
//!
//! ```no_run
//! use lifecycle::{Lifecycle, Report};
//! use lifecycle_worker::{AnyQueue, BoxError, Job, Queue, Worker};
//!
//! #[tokio::main]
//! async fn main() -> Result<Report, Box<dyn std::error::Error>> {
//!     let mut life = Lifecycle::from_env()?; // signals are caught from here on
//!     life.serve_probes().await?;
//!     let queue = AnyQueue::connect(&std::env::var("QUEUE_URL")?).await?;
//!     queue.prepare().await?; // creates its tables; or leave that to an admin process
//!     let worker = Worker::new(queue, mail).concurrency(8);
//!     life.check(worker.readiness("queue"));
//!     life.spawn("mail", worker); // with a server that pushes: .after("http")
//!     Ok(life.run().await?)
//! }
//!
//! async fn mail(job: Job) -> Result<(), BoxError> {
//!     println!("to {}", std::str::from_utf8(job.payload())?);
//!     Ok(())
//! }
//! ```
//!
//! [`AnyQueue::connect`] takes a URL; the queues, a feature each (`memory`, `sqlite`, `postgres`,
//! `redis`, `amqp`, `nats`, `sqs`), have constructors of their own too. A queue of one's own
//! implements [`Queue`] and is held to it by the suite of the feature `conformance`.
//!
//! # What is guaranteed
//!
//! 1. A claim is never dropped while it may get an answer: at the stop it is interrupted and
//!    waited for, and what it brings goes back.
//! 2. Every claimed job is finished, given back, failed or left to its lease; the report counts
//!    which ([`lifecycle::QueueJobs`]), and says so when a claim's answer did not come.
//! 3. A started job is given back only when its handler has stopped
//!    (but for [`Unstoppable::ReturnAnyway`]), and that counts no attempt where the queue can
//!    ([`ReleaseCapabilities::attempt`]).
//! 4. Nothing is settled by a claim that is not the job's newest: the queue refuses it, but for
//!    NATS and SQS, where nothing is sent once the lease has ended by this process' clock. A
//!    lease that cannot be extended cancels its job before it ends.
//! 5. [`Worker::on_settled`] speaks when the queue has answered, not before.
//! 6. Delivery is at least once: a worker that vanishes has its jobs claimed again when their
//!    leases end, one attempt more. Handlers are to be idempotent.
//!
//! # What wakes an idle worker
//!
//! Its claim, which begins anew every [`Worker::claim_wait`] (5 s), and within it what the queue
//! does: PostgreSQL is told and looks once a second, Redis is told and looks every 5 s, SQLite
//! looks every 50 ms (it reads, and does not lock), RabbitMQ is asked ten times a second, NATS five
//! times, SQS holds a claim for 2 s, memory does nothing. A schedule sleeps until its next tick, a
//! minute at most. Leases are extended only while
//! there are jobs. The readiness check looks at how the last claim went once a second.
//!
//! # Words
//!
//! *Claim*: take a job under a lease. *Lease*: the right to a job until a time. *Settle*: tell
//! the queue what became of a job. *Acknowledge*: it is done, forget it. *Give back* (release):
//! unharmed, since the worker leaves. *Fail*: it is tried again later, or dead. *Dead letter*:
//! never delivered again, kept with its error. *Quiet*: no more claims. *Rescue*: a claim of a
//! job whose lease has ended. *Fence*: refuse whoever is not the job's newest claim. *Attempt*:
//! counted at the claim, and not counted when the job is given back.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc(test(attr(deny(warnings))))]

mod any;
mod capabilities;
mod claimed;
#[cfg(feature = "conformance")]
#[cfg_attr(docsrs, doc(cfg(feature = "conformance")))]
pub mod conformance;
mod error;
mod fate;
mod handler;
mod job;
mod lease;
mod push;
mod queue;
mod queues;
mod retry;
mod runner;
#[cfg(feature = "schedule")]
mod schedule;
mod settlement;
mod stats;
mod sync;
mod telemetry;
mod verdict;
mod worker;

pub use any::AnyQueue;
pub use capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
pub use claimed::{Claimed, JobId, Receipt};
pub use error::{BoxError, JobError, QueueError};
pub use handler::{ByFunction, ByService, Handler};
pub use job::{CancelReason, Job};
pub use push::{Dedupe, Push, Pushed};
pub use queue::{Extend, Extended, Fail, Next, Queue, Release, Settled, Start};
#[cfg(feature = "amqp")]
#[cfg_attr(docsrs, doc(cfg(feature = "amqp")))]
pub use queues::AmqpQueue;
#[cfg(feature = "memory")]
#[cfg_attr(docsrs, doc(cfg(feature = "memory")))]
pub use queues::MemoryQueue;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use queues::NatsQueue;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use queues::PostgresQueue;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use queues::RedisQueue;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use queues::SqliteQueue;
#[cfg(feature = "sqs")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqs")))]
pub use queues::SqsQueue;
pub use retry::Retry;
#[cfg(feature = "schedule")]
#[cfg_attr(docsrs, doc(cfg(feature = "schedule")))]
pub use schedule::{Missed, Schedule, ScheduleError};
pub use settlement::{Settlement, SettlementKind};
pub use stats::{DeadJob, Stats};
pub use worker::{Unstoppable, Worker};
