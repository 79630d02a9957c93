//! What works on a job: an async function or a tower service, behind one type.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use lifecycle::Outcome;
use tower_service::Service;

use crate::error::BoxError;
use crate::job::Job;

/// What works on jobs: an async function of a [`Job`], or a [`tower_service::Service`] of it.
///
/// A function returns `()` or `Result<(), E>`. A service's response says nothing, its error
/// is the job's. A service is asked whether it is ready before a job is claimed for it, and
/// again before each job: a rate limit or a concurrency limit holds jobs back in the queue.
///
/// `Kind` only tells the two apart, and is never named.
///
/// # Examples
/// ```
/// # #[cfg(feature = "memory")] {
/// use lifecycle_worker::{BoxError, Job, MemoryQueue, Worker};
///
/// async fn mail(job: Job) -> Result<(), BoxError> {
///     println!("to {}", std::str::from_utf8(job.payload())?);
///     Ok(())
/// }
///
/// let queue = MemoryQueue::new("mail");
/// let by_function = Worker::new(queue.clone(), mail);
/// let by_service = Worker::new(queue, tower::service_fn(mail));
/// # drop((by_function, by_service));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not work on jobs",
    note = "an async function `fn(Job) -> Result<(), E>` does, where `E` turns into a `BoxError`",
    note = "so does a `tower::Service<Job>` whose error turns into a `BoxError`"
)]
pub trait Handler<Kind>: Send + 'static {
    /// Whether it can take a job.
    ///
    /// # Errors
    /// When it never can again: the worker fails.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    /// Works on the job. Called only when ready.
    fn call(&mut self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static;
}

/// Marks a [`Handler`] that is a function.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ByFunction {}

/// Marks a [`Handler`] that is a service.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ByService {}

impl<F, Fut> Handler<ByFunction> for F
where
    F: FnMut(Job) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
{
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let working = self(job);
        async move { working.await.into_result() }
    }
}

impl<S> Handler<ByService> for S
where
    S: Service<Job> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(self, cx).map_err(Into::into)
    }

    fn call(&mut self, job: Job) -> impl Future<Output = Result<(), BoxError>> + Send + 'static {
        let working = Service::call(self, job);
        async move { working.await.map(drop).map_err(Into::into) }
    }
}

pub(crate) type Working = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A handler, its types forgotten.
pub(crate) trait AnyHandler: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn call(&mut self, job: Job) -> Working;
}

struct Erased<H, Kind>(H, std::marker::PhantomData<fn(Kind)>);

pub(crate) fn erase<Kind: 'static>(handler: impl Handler<Kind>) -> Box<dyn AnyHandler> {
    Box::new(Erased(handler, std::marker::PhantomData))
}

impl<Kind, H: Handler<Kind>> AnyHandler for Erased<H, Kind> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = catch_unwind(AssertUnwindSafe(|| self.0.poll_ready(cx)));
        ready.unwrap_or_else(|payload| {
            Poll::Ready(Err(format!("it panicked: {}", message_of(&*payload)).into()))
        })
    }

    /// A panic of `call` itself is raised again where the future's own would be.
    fn call(&mut self, job: Job) -> Working {
        match catch_unwind(AssertUnwindSafe(|| self.0.call(job))) {
            Ok(working) => Box::pin(working),
            Err(payload) => Box::pin(async move { resume_unwind(payload) }),
        }
    }
}

/// What a panic said.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
