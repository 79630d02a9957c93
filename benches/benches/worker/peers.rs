//! apalis as it comes, but for the size of its batches and how many jobs it has at a time.
//!
//! It is timed from the beginning of its first job to the beginning of its last: neither its start
//! nor what it does after that costs it anything.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use apalis::prelude::{BoxDynError, Data, TaskSink, WorkerBuilder, WorkerBuilderExt, WorkerError};
use apalis_postgres::PostgresStorage;
use apalis_redis::RedisStorage;
use benches::Took;
use tokio_util::task::AbortOnDropHandle;

use crate::counted::Count;
use crate::places::{Place, Postgres, Redis};

pub(crate) async fn on_redis(redis: &Redis, jobs: u64, at_a_time: usize) -> Took {
    redis.empty().await;
    let connection = apalis_redis::connect(redis.url()).await.expect("a connection");
    let config = apalis_redis::Config::default().queue(QUEUE).batch_size(at_a_time);
    let mut storage = RedisStorage::<u64, _>::new(connection).with_config(config);
    for some in portions(jobs) {
        storage.push_bulk(some).await.expect("it takes jobs");
    }
    timed(jobs, |count, all_done| {
        let worker = WorkerBuilder::new("bench").backend(storage).data(count);
        worker.concurrency(at_a_time).build(handle).run_until(all_done)
    })
    .await
}

pub(crate) async fn on_postgres(at: &Postgres, jobs: u64, at_a_time: usize) -> Took {
    PostgresStorage::setup(at.pool()).await.expect("its tables");
    // A worker of the last round would be in the way of one of the same name.
    at.run("truncate apalis.jobs, apalis.workers cascade").await;
    let config = apalis_postgres::Config::default().queue(QUEUE).batch_size(at_a_time);
    let mut storage = PostgresStorage::<u64>::new(at.pool()).with_config(config);
    for some in portions(jobs) {
        storage.push_bulk(some).await.expect("it takes jobs");
    }
    at.tidy().await;
    timed(jobs, |count, all_done| {
        let worker = WorkerBuilder::new("bench").backend(storage).data(count);
        worker.concurrency(at_a_time).build(handle).run_until(all_done)
    })
    .await
}

/// Runs a worker until it has begun its last job.
async fn timed<R>(jobs: u64, run: impl FnOnce(Arc<Count>, AllDone) -> R) -> Took
where
    R: Future<Output = Result<(), WorkerError>> + Send + 'static,
{
    let count = Count::of(jobs);
    let ends = count.clone();
    let all_done = Box::pin(async move {
        ends.ends().await;
        Ok(())
    });
    let worker = AbortOnDropHandle::new(tokio::spawn(run(count.clone(), all_done)));
    worker.await.expect("it does not panic").expect("it runs");
    count.took_since_the_first()
}

type AllDone = Pin<Box<dyn Future<Output = Result<(), io::Error>> + Send>>;

async fn handle(_number: u64, count: Data<Arc<Count>>) -> Result<(), BoxDynError> {
    count.begins();
    count.done(1);
    Ok(())
}

/// Its client gives a call half a second.
fn portions(jobs: u64) -> impl Iterator<Item = Vec<u64>> {
    let all: Vec<_> = (0..jobs).collect();
    let portions: Vec<_> = all.chunks(500).map(<[u64]>::to_vec).collect();
    portions.into_iter()
}

const QUEUE: &str = "apalis-jobs";
