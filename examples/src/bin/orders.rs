//! A small shop: takes orders over HTTP, prepares each in its own time, and loses none of them
//! when it is stopped.
//!
//! Run with `cargo run -p examples --bin orders`, then
//! `curl -d '{"item":"tea","ms":5000}' -H 'content-type: application/json' localhost:8080/orders`
//! and press Ctrl-C (or send SIGTERM) while that is prepared: it is finished. One that takes too
//! long for that (`"ms":60000`) goes back to the queue, and is done after the next start.
//!
//! `orders web`, `orders worker` and `orders clock` are the same as three processes, once
//! `orders migrate` has run; the clock has the book counted at night (`ORDERS_TALLY`, in cron's
//! words), once however many of them run.
//! `QUEUE_URL` says where the queue is (`sqlite:orders.db?queue=orders`, in the current folder).
//! An order's state is in the book, which only a worker changes (`src/book.rs`); the job in the
//! queue has the order with it, so that the two need not be one database.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header::LOCATION};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::{Parser, ValueEnum};
use examples::book::{Book, Entry};
use examples::queue::{self, Unusable};
use lifecycle::{Check, Lifecycle, Report, StopTimeout};
use lifecycle_worker::{
    AnyQueue, BoxError, Job, JobError, Missed, Push, Queue, QueueError, Schedule, ScheduleError,
    Stats, Worker,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A small shop that loses no order.
#[derive(Parser)]
struct Args {
    /// Which of its processes this is.
    #[arg(value_enum, default_value = "all")]
    process: Process,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Process {
    /// Everything in one process; prepares the database by itself.
    All,
    /// Has the book counted at night.
    Clock,
    /// Prepares the database, and ends.
    Migrate,
    /// Takes orders.
    Web,
    /// Prepares orders.
    Worker,
}

#[derive(Clone)]
struct Shop {
    book: Book,
    queue: AnyQueue,
}

#[derive(Deserialize)]
struct Order {
    item: String,
    /// How long it takes to prepare, in milliseconds.
    #[serde(default)]
    ms: u32,
}

/// What the worker is told.
#[derive(Deserialize, Serialize)]
struct Prepare {
    order: i64,
    ms: u32,
}

#[tokio::main]
async fn main() -> Result<Report, Box<dyn Error>> {
    let Args { process } = Args::parse();
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let shop = Shop::open(process).await.map_err(|error| -> Box<dyn Error> { error })?;
    if process == Process::Migrate {
        examples::say_ready();
        return Ok(life.run_once("migrate", migrate(shop)).await?);
    }
    life.serve_probes().await?;
    // Under systemd the one grace period counts, whatever the unit's `TimeoutStopSec` is.
    life.notify_systemd(StopTimeout::Extend).await;
    // Without it `/livez` would pass however long the runtime stood still.
    life.watchdog(STUCK_AFTER);
    if matches!(process, Process::All | Process::Clock) {
        match clock(shop.queue.clone()) {
            // RabbitMQ, NATS, SQS: the shop can do without.
            Err(error @ ScheduleError::NoDedupe { .. }) if process == Process::All => {
                tracing::warn!(%error, "the book is not counted at night");
            }
            clock => {
                let clock = clock.map_err(|error| error.to_string())?;
                life.check(clock.readiness("clock"));
                life.spawn("clock", clock);
            }
        }
    }
    if matches!(process, Process::All | Process::Web) {
        let server = lifecycle_tower::serve(examples::listen().await?, app(shop.clone()));
        life.spawn("http", server);
    }
    if matches!(process, Process::Clock | Process::Web) {
        let (asked, closed) = (shop.queue.clone(), shop.queue.clone());
        life.check(Check::readiness("queue", move || ping(asked.clone())));
        life.on_close("queue", async move { closed.close().await });
    } else {
        let book = shop.book.clone();
        let worker = Worker::new(shop.queue.clone(), move |job| work(job, book.clone()));
        life.check(worker.readiness("queue"));
        let spawned = life.spawn("worker", worker);
        if process == Process::All {
            // What the last request has pushed still finds the queue open.
            spawned.after("http");
        }
    }
    let handle = life.handle();
    life.on_close("book", async move {
        let (done, waiting) = shop.book.counts().await?;
        handle.note(format!("orders in the book: {done} done, {waiting} to be done"));
        shop.book.close().await;
        Ok::<_, BoxError>(())
    });
    examples::say_ready();
    Ok(life.run().await?)
}

impl Shop {
    async fn open(process: Process) -> Result<Self, BoxError> {
        let url = queue::url("sqlite:orders.db?queue=orders");
        if url.starts_with("memory:") && process != Process::All {
            let what = "memory: is one process' own, and web and worker share none".to_owned();
            return Err(Unusable::from(QueueError::Invalid { what }).into());
        }
        let shop = Self { queue: queue::connect(&url).await?, book: Book::open(&url).await? };
        match process {
            Process::All => shop.prepare().await?,
            Process::Migrate => {}
            Process::Clock | Process::Web | Process::Worker => shop.is_prepared().await?,
        }
        Ok(shop)
    }

    async fn prepare(&self) -> Result<(), BoxError> {
        queue::prepare(&self.queue).await?;
        self.book.prepare().await
    }

    async fn is_prepared(&self) -> Result<(), BoxError> {
        let first = |why: &dyn Display| format!("not prepared: run `orders migrate` first ({why})");
        match self.queue.ping().await {
            Err(QueueError::NotPrepared { what }) => {
                return Err(first(&what.split(';').next().unwrap_or_default()).into());
            }
            answer => answer.map_err(Unusable::from)?,
        }
        self.book.counts().await.map_err(|error| first(&error))?;
        Ok(())
    }
}

async fn migrate(shop: Shop) -> Result<(), BoxError> {
    shop.prepare().await?;
    shop.book.close().await;
    Ok(shop.queue.close().await?)
}

async fn ping(queue: AnyQueue) -> Result<(), QueueError> {
    queue.ping().await
}

fn app(shop: Shop) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/stats", get(stats))
        .route("/orders/{id}", get(show))
        .with_state(shop)
        .merge(examples::routes::routes())
}

async fn place(
    State(shop): State<Shop>,
    Json(order): Json<Order>,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    // On a task of its own: a client that leaves in the middle leaves no half an order.
    let placed = tokio::spawn(async move { shop.place(order).await }).await;
    let id = placed.map_err(unavailable)?.map_err(unavailable)?;
    let (location, body) = (format!("/orders/{id}"), json!({ "id": id, "state": "taken" }));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(body)))
}

impl Shop {
    async fn place(&self, Order { item, ms }: Order) -> Result<i64, BoxError> {
        let order = self.book.take(&item, ms).await?;
        let job = Push::json("order", &Prepare { order, ms })?;
        if let Err(error) = self.queue.push(&[job]).await {
            self.book.strike(order).await?;
            return Err(error.into());
        }
        Ok(order)
    }
}

async fn show(
    State(shop): State<Shop>,
    Path(id): Path<i64>,
) -> Result<Json<Entry>, (StatusCode, String)> {
    let entry = shop.book.entry(id).await.map_err(unavailable)?;
    entry.map(Json).ok_or((StatusCode::NOT_FOUND, format!("there is no order {id}\n")))
}

async fn stats(State(shop): State<Shop>) -> Result<Json<Stats>, (StatusCode, String)> {
    shop.queue.stats().await.map(Json).map_err(unavailable)
}

fn unavailable(error: impl Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

fn clock(queue: AnyQueue) -> Result<Schedule, ScheduleError> {
    let at = std::env::var("ORDERS_TALLY").unwrap_or_else(|_| "0 3 * * *".to_owned());
    let tally = Push::new("tally", "");
    Schedule::new(queue)?.missed(Missed::Once).every("tally", &at, "UTC", tally)
}

async fn work(job: Job, book: Book) -> Result<(), BoxError> {
    match job.kind() {
        "order" => prepare(job, book).await,
        "tally" => {
            let (done, waiting) = book.counts().await?;
            tracing::info!(done, waiting, tick = job.header("schedule-tick"), "tally");
            Ok(())
        }
        other => Err(JobError::dead(format!("nobody knows how to {other}")).into()),
    }
}

async fn prepare(job: Job, book: Book) -> Result<(), BoxError> {
    let Prepare { order, ms } = job.json()?;
    tokio::time::sleep(Duration::from_millis(ms.into())).await;
    book.done(order, job.attempt(), job.returns()).await
}

/// How long the runtime may stand still before `/livez` fails.
const STUCK_AFTER: Duration = Duration::from_secs(10);
