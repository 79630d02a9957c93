//! Components: the named tasks of a process, started together and waited for.
//!
//! Not here: when they are told what (`coordinator`), restarts (the platform's job: a
//! component that died has left state that only a fresh process is sure to be rid of).

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::runtime;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::blockers::{Blocker, Kind, Stage};
use crate::clock::Clock;
use crate::error::BoxError;
use crate::handle::Handle;
use crate::report::{Cause, End};

/// A part of the process that runs until it is told to stop.
///
/// Every future that returns `()` or a `Result<(), E>` is one; give it a clone of the
/// [`Handle`] so that it can tell when to stop. Implement the trait for a type that is
/// configured first and run later, as a server.
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
pub trait Component: Send + 'static {
    /// Runs until the handle says `Draining`, finishes what it has, and returns.
    ///
    /// Returning earlier starts the shutdown, with this as its cause; so does an error or
    /// a panic.
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

/// A component that has not been started.
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) role: Role,
    start: Box<dyn FnOnce(Handle) -> BoxFuture + Send>,
}

/// The components that have been started and not been joined.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: JoinSet<Result<(), BoxError>>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    id: Id,
    name: String,
    role: Role,
    since_ms: u64,
    abort: AbortHandle,
}

/// A component that was joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) since_ms: u64,
    pub(crate) end: End,
}

impl Registered {
    pub(crate) fn new(name: String, component: impl Component) -> Self {
        let role = component.role();
        Self { name, role, start: Box::new(move |handle| Box::pin(component.run(handle))) }
    }
}

impl Running {
    pub(crate) fn start(
        &mut self,
        component: Registered,
        handle: Handle,
        clock: Clock,
        on: &runtime::Handle,
    ) {
        let Registered { name, role, start } = component;
        // The future is made on its own runtime: making it may already need one.
        let task = async move { start(handle).await };
        let abort = self.tasks.spawn_on(task, on);
        self.members.push(Member { id: abort.id(), name, role, since_ms: clock.now_ms(), abort });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn serves(&self) -> bool {
        self.members.iter().any(|member| member.role == Role::Server)
    }

    /// The next component to end; `None` when all have.
    ///
    /// # Cancel safety
    /// Cancel safe: an end that is not returned is returned by the next call.
    pub(crate) async fn next(&mut self) -> Option<Joined> {
        let (id, end) = match self.tasks.join_next_with_id().await? {
            Ok((id, Ok(()))) => (id, End::Finished),
            Ok((id, Err(error))) => (id, End::Failed(chain(&*error))),
            Err(error) => (error.id(), end_of(error)),
        };
        let at = self.members.iter().position(|member| member.id == id)?;
        Some(self.members.swap_remove(at).joined(end))
    }

    /// Aborts those of that kind: tasks at the hard stop's end, the rest a little later.
    pub(crate) fn abort(&self, which: impl Fn(Role) -> bool) {
        for member in self.members.iter().filter(|member| which(member.role)) {
            member.abort.abort();
        }
    }

    /// Those that are themselves what the drain waits for.
    pub(crate) fn blockers(&self, now_ms: u64) -> Vec<Blocker> {
        let tasks = self.members.iter().filter(|member| member.role == Role::Task);
        tasks.map(|member| member.blocker(now_ms)).collect()
    }

    /// Gives up on those that are left.
    pub(crate) fn give_up(&mut self) -> Vec<Joined> {
        self.tasks.detach_all();
        self.members.drain(..).map(|member| member.joined(End::NotJoined)).collect()
    }
}

impl Member {
    fn joined(self, end: End) -> Joined {
        Joined { name: self.name, role: self.role, since_ms: self.since_ms, end }
    }

    fn blocker(&self, now_ms: u64) -> Blocker {
        Blocker {
            kind: Kind::Component,
            name: self.name.clone(),
            age: std::time::Duration::from_millis(now_ms.saturating_sub(self.since_ms)),
            stage: Stage::Working,
        }
    }
}

impl Joined {
    /// The cause that this end is, when nothing had asked for it.
    pub(crate) fn cause(&self) -> Cause {
        let name = self.name.clone();
        match &self.end {
            End::Failed(error) => Cause::ComponentFailed { name, error: error.clone() },
            End::Panicked(message) => Cause::ComponentPanicked { name, message: message.clone() },
            _ => Cause::ComponentEnded { name },
        }
    }
}

/// How a task ended that did not return.
pub(crate) fn end_of(error: JoinError) -> End {
    match error.try_into_panic() {
        Ok(payload) => End::Panicked(message_of(&*payload)),
        Err(_aborted) => End::Aborted,
    }
}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    struct Chain<'a>(&'a (dyn std::error::Error + 'static));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            crate::error::with_sources(self.0, f)
        }
    }
    Chain(error).to_string()
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).field("role", &self.role).finish()
    }
}
