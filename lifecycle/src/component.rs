//! Components: the named tasks of a process, as they are registered.
//!
//! Not here: those that run (`running`), when they are told what (`coordinator`), restarts
//! (the platform's job: a component that died has left state that only a fresh process is
//! sure to be rid of).

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;

use crate::error::BoxError;
use crate::handle::Handle;
use crate::health::Heart;

/// A part of the process that runs until it is told to stop.
///
/// Every future that returns `()` or a `Result<(), E>` is one; give it a clone of the
/// [`Handle`] so that it can tell when to stop. One that drains
/// [`after`](crate::Spawned::after) others needs the handle that it is started with: make
/// it with [`component_fn`]. Implement the trait for a type that is configured first and
/// run later, as a server.
///
/// # Examples
/// ```
/// use lifecycle::{BoxError, Component, Handle};
///
/// struct Ticker;
///
/// impl Component for Ticker {
///     async fn run(self, handle: Handle) -> Result<(), BoxError> {
///         handle.draining().await;
///         Ok(())
///     }
/// }
/// # let _ = Ticker;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    note = "a future that is `Send + 'static` is one; a closure that takes a `Handle` becomes one by `component_fn`",
    note = "what only turns into a future, as `axum::serve(..)` does, is awaited in an `async move` block",
    note = "a `Serve` is one when its app is a service of http requests: a `Router` needs its `with_state`"
)]
pub trait Component: Send + 'static {
    /// Runs until the handle says `Draining`, finishes what it has, and returns.
    ///
    /// Returning earlier starts the shutdown, with this as its cause, unless the component
    /// is [`optional`](crate::Spawned::optional); an error or a panic does so in any case.
    fn run(self, handle: Handle) -> impl Future<Output = Result<(), BoxError>> + Send + 'static;

    /// What it is to the shutdown. Default: a task.
    fn role(&self) -> Role {
        Role::Task
    }
}

/// What a component is to the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// It serves a listener: there is a lame duck. It names its own work through a
    /// [`Gate`](crate::Gate), and ends by itself when `Closing` is reached.
    Server,
    /// One task: it is itself what the drain waits for, and is aborted at the end.
    Task,
    /// It takes jobs: quiet from the cause on. It names its own work, and ends by itself
    /// when `Closing` is reached.
    Worker,
}

/// What a component or hook may return.
#[diagnostic::on_unimplemented(
    message = "a component or hook returns `()` or `Result<(), E>`, not `{Self}`",
    note = "a loop without an end is of type `!`: leave it when `Handle::draining` resolves",
    note = "`E` is anything that `?` turns into a `BoxError`, which is `Send + Sync`"
)]
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    /// Those of the component.
    fn into_result(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

impl<F> Component for F
where
    F: Future + Send + 'static,
    F::Output: Outcome,
{
    async fn run(self, _handle: Handle) -> Result<(), BoxError> {
        self.await.into_result()
    }
}

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// What makes a future each time it is called. A panic of `make` itself is raised again where
/// the future's own would be.
pub(crate) fn maker<F, Fut>(mut make: F) -> Box<dyn FnMut() -> BoxFuture + Send>
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
{
    Box::new(move || match catch_unwind(AssertUnwindSafe(&mut make)) {
        Ok(future) => Box::pin(async move { future.await.into_result() }),
        Err(payload) => Box::pin(async move { resume_unwind(payload) }),
    })
}

/// A component made of a function that is given its [`Handle`]; made by [`component_fn`].
#[derive(Clone, Copy)]
#[must_use = "a component does nothing until it is spawned"]
pub struct ComponentFn<F> {
    function: F,
}

/// A component of an async function that is given its own handle, which a plain future is
/// not: what it sees of the phases follows the order of [`after`](crate::Spawned::after).
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lifecycle::{Lifecycle, component_fn};
///
/// let mut life = Lifecycle::builder().build_local()?;
/// let handle = life.handle();
/// life.spawn("importer", async move { handle.shutdown("imported") })
///     .spawn("buffer", component_fn(|handle| async move {
///         handle.draining().await; // nobody fills it any more: the importer has ended
///     }))
///     .after("importer");
/// assert_eq!(life.run().await?.exit_code(), 0);
/// # Ok(()) }
/// ```
pub fn component_fn<F, Fut>(function: F) -> ComponentFn<F>
where
    F: FnOnce(Handle) -> Fut,
    Fut: Future,
{
    ComponentFn { function }
}

impl<F, Fut> Component for ComponentFn<F>
where
    F: FnOnce(Handle) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
{
    async fn run(self, handle: Handle) -> Result<(), BoxError> {
        (self.function)(handle).await.into_result()
    }
}

impl<F> fmt::Debug for ComponentFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentFn").finish_non_exhaustive()
    }
}

/// What a component's end means to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// It runs as long as the process: ending earlier is a failure.
    Essential,
    /// It is what the process was started for: its end is the process' end.
    Once,
    /// It may end when it likes.
    Optional,
}

/// A component that has not been started.
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) tenure: Tenure,
    /// The names of those that it drains after.
    pub(crate) after: Vec<String>,
    pub(crate) heart: Option<Arc<Heart>>,
    pub(crate) start: Box<dyn FnOnce(Handle) -> BoxFuture + Send>,
}

impl Registered {
    pub(crate) fn new(name: String, tenure: Tenure, component: impl Component) -> Self {
        let role = component.role();
        let start = Box::new(move |handle| -> BoxFuture { Box::pin(component.run(handle)) });
        Self { name, role, tenure, after: Vec::new(), heart: None, start }
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("tenure", &self.tenure)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
