//! The components that run: started together, told of the phases in their order, joined.
//!
//! Not here: the order itself (`order`), when anything is due (`coordinator`, `closing`).

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::blockers::{Blocker, Kind, Stage};
use crate::component::{BoxFuture, Registered, Role, Tenure};
use crate::handle::Handle;
use crate::health::Heart;
use crate::order::{Order, Progress};
use crate::phase::Phase;
use crate::report::{Cause, End};
use crate::shared::Shared;
use crate::view::View;

/// The components that have been started and not been joined.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: JoinSet<End>,
    /// By their positions in the order, so that an end costs the same whatever their number.
    members: BTreeMap<usize, Member>,
    positions: HashMap<Id, usize>,
    order: Order,
    /// Of those that drain after others, by their positions. Kept to the end: a clone of a
    /// component's handle may outlive the component.
    views: BTreeMap<usize, Arc<View>>,
    /// By their positions in the order.
    ended: Vec<bool>,
    /// When the hard stop came, since the cause.
    cancelling_at: Option<Duration>,
    /// When the next of them sees another phase by time alone, since the cause.
    changes_at: Option<Duration>,
}

#[derive(Debug)]
struct Member {
    position: usize,
    name: String,
    role: Role,
    tenure: Tenure,
    since_ms: u64,
    abort: AbortHandle,
    heart: Option<Arc<Heart>>,
}

/// A component that was joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) name: String,
    pub(crate) role: Role,
    tenure: Tenure,
    pub(crate) since_ms: u64,
    pub(crate) end: End,
}

impl Running {
    /// Starts all of them; nothing runs before.
    pub(crate) fn start(
        &mut self,
        components: Vec<Registered>,
        order: Order,
        shared: &Arc<Shared>,
        on: &runtime::Handle,
    ) {
        debug_assert!(self.members.is_empty(), "started once");
        self.ended = vec![false; components.len()];
        self.order = order;
        for (position, component) in components.into_iter().enumerate() {
            let Registered { name, role, tenure, start, heart, .. } = component;
            let view = self.order.waits(position).then(|| Arc::new(View::new()));
            let handle = Handle::of(Arc::clone(shared), view.clone(), heart.clone());
            handle.beat();
            // The future is made on its own runtime: making it may already need one.
            let task = async move { ended(start(handle)).await };
            let abort = self.tasks.spawn_on(task, on);
            self.positions.insert(abort.id(), position);
            let since_ms = shared.clock().now_ms();
            let member = Member { position, name, role, tenure, since_ms, abort, heart };
            self.members.insert(position, member);
            self.views.extend(view.map(|view| (position, view)));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn serves(&self) -> bool {
        self.has(Role::Server)
    }

    /// Whether one of that kind is left.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.members.values().any(|member| member.role == role)
    }

    /// The next component to end; `None` when all have.
    ///
    /// # Cancel safety
    /// Cancel safe: an end that is not returned is returned by the next call.
    pub(crate) async fn next(&mut self) -> Option<Joined> {
        let ended = self.tasks.join_next_with_id().await?;
        self.joined(ended)
    }

    /// One that has ended already, if there is one.
    pub(crate) fn try_next(&mut self) -> Option<Joined> {
        let ended = self.tasks.try_join_next_with_id()?;
        self.joined(ended)
    }

    fn joined(&mut self, ended: Result<(Id, End), JoinError>) -> Option<Joined> {
        let (id, end) = ended.unwrap_or_else(|error| (error.id(), end_of(error)));
        let member = self.members.remove(&self.positions.remove(&id)?)?;
        self.ended[member.position] = true;
        if let Some(heart) = &member.heart {
            heart.rest();
        }
        Some(member.joined(end))
    }

    /// Shows the phase to those that have a view of their own, each in its turn.
    ///
    /// `at` and `cancel_ends` are since the cause.
    pub(crate) fn follow(&mut self, phase: Phase, at: Duration, cancel_ends: Duration) {
        if phase == Phase::Cancelling {
            self.cancelling_at.get_or_insert(at);
        }
        let cancel = self.cancelling_at.map(|began| (began, cancel_ends));
        let progress = Progress { phase, at, cancel };
        self.changes_at = None;
        for (position, view) in &self.views {
            let seen = self.order.seen(*position, &self.ended, progress);
            if seen.phase > view.phase() {
                view.enter(seen.phase);
            }
            self.changes_at = [self.changes_at, seen.changes_at].into_iter().flatten().min();
        }
    }

    /// When [`follow`](Self::follow) has something to show by time alone, since the cause.
    pub(crate) fn changes_at(&self) -> Option<Duration> {
        self.changes_at
    }

    /// Aborts those of that kind: tasks at the hard stop's end, the rest a little later.
    pub(crate) fn abort(&self, which: impl Fn(Role) -> bool) {
        for member in self.members.values().filter(|member| which(member.role)) {
            member.abort.abort();
        }
    }

    /// Those of that kind, as what is being waited for.
    /// Who still waits for its turn to drain holds nothing: those before it do.
    pub(crate) fn blockers(&self, now_ms: u64, which: impl Fn(Role) -> bool) -> Vec<Blocker> {
        let waits = |member: &&Member| {
            let view = self.views.get(&member.position);
            view.is_some_and(|view| view.phase() == Phase::LameDuck)
        };
        let members = self.members.values().filter(|member| which(member.role));
        let members = members.filter(|member| !waits(member));
        members.map(|member| member.blocker(now_ms)).collect()
    }

    /// Gives up on those that are left.
    pub(crate) fn give_up(&mut self) -> Vec<Joined> {
        self.tasks.detach_all();
        let left = std::mem::take(&mut self.members);
        left.into_values().map(|member| member.joined(End::NotJoined)).collect()
    }
}

impl Member {
    fn joined(self, end: End) -> Joined {
        Joined {
            name: self.name,
            role: self.role,
            tenure: self.tenure,
            since_ms: self.since_ms,
            end,
        }
    }

    fn blocker(&self, now_ms: u64) -> Blocker {
        Blocker {
            kind: Kind::Component,
            name: self.name.clone(),
            age: Duration::from_millis(now_ms.saturating_sub(self.since_ms)),
            stage: Stage::Working,
        }
    }
}

impl Joined {
    /// The cause that this end is, when nothing had asked for it; none when it may end.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let name = self.name.clone();
        Some(match (&self.end, self.tenure) {
            (End::Failed(error), _) => Cause::ComponentFailed { name, error: error.clone() },
            (End::Panicked(message), _) => {
                Cause::ComponentPanicked { name, message: message.clone() }
            }
            (_, Tenure::Essential) => Cause::ComponentEnded { name },
            // Its runtime was dropped: it is over, and not done.
            (End::Aborted, Tenure::Once) => Cause::ComponentEnded { name },
            (_, Tenure::Once) => Cause::Finished { name },
            (_, Tenure::Optional) => return None,
        })
    }
}

/// How a future of the user's ended that returned.
///
/// Its error is put into words here, in the user's own task: what panics or blocks in a
/// `Display` must not do so in the coordinator, which nobody else watches.
pub(crate) async fn ended(future: BoxFuture) -> End {
    match future.await {
        Ok(()) => End::Finished,
        Err(error) => End::Failed(chain(&*error)),
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
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
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
