//! The end of a shutdown: the components' last moments, then the hooks one by one.
//!
//! Not here: when it begins and how long it may take (`machine`), who is told (`record`).
//!
//! # Invariants
//! 1. A hook starts only when every component was joined or given up.
//! 2. Hooks run one at a time, the last registered first.

use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use crate::blockers::{Blocker, Kind, Stage};
use crate::component::Role;
use crate::hook::{Hook, RunningHook};
use crate::report::End;
use crate::running::{Joined, Running};

#[derive(Debug, Default)]
pub(crate) struct Closing {
    hooks: Vec<Hook>,
    hook: Option<RunningHook>,
    joining: Option<Joining>,
}

/// A hook that has ended, with how long it ran.
#[derive(Debug)]
pub(crate) struct EndedHook {
    pub(crate) name: String,
    pub(crate) end: End,
    pub(crate) took: Duration,
}

/// What became of components that did not end by themselves.
#[derive(Debug)]
pub(crate) enum Overdue {
    Nothing,
    /// These were told to be dropped.
    Aborted(Vec<Blocker>),
    /// Not even that has ended these.
    GivenUp(Vec<Joined>),
}

#[derive(Clone, Copy, Debug)]
struct Joining {
    began: Instant,
    left: Duration,
    /// The same since a stop was forced in it.
    hurried: Option<(Instant, Duration)>,
    /// How many steps of [`Joining::due_at`] have been taken.
    step: usize,
}

impl Joining {
    /// When the next step is due: servers are dropped, then workers, then what is left is given
    /// up. Workers have longer: they return jobs, which may have to be tried again.
    fn due_at(self, has_workers: bool) -> Instant {
        let tenths = match (self.step, has_workers) {
            (0, _) => 1,
            (1, true) => 6,
            (_, true) => 7,
            (_, false) => 2,
        };
        let due = |(began, left): (Instant, Duration)| began + left * tenths / 10;
        let as_planned = due((self.began, self.left));
        self.hurried.map_or(as_planned, |hurried| as_planned.min(due(hurried)))
    }
}

impl Closing {
    pub(crate) fn register(&mut self, hooks: Vec<Hook>) {
        self.hooks = hooks;
    }

    /// Gives the components their last moments: tasks are dropped at once, servers end by
    /// themselves within a tenth of what is `left`, workers within six tenths of it.
    pub(crate) fn begin(&mut self, running: &Running, left: Duration) {
        running.abort(|role| role == Role::Task);
        self.joining = Some(Joining { began: Instant::now(), left, hurried: None, step: 0 });
    }

    /// Makes do with what is `left`, which has become less: the hook that runs leaves time to
    /// those behind it, as it did before.
    pub(crate) fn hurry(&mut self, left: Duration) {
        if let Some(joining) = &mut self.joining {
            joining.hurried = Some((Instant::now(), left));
        }
        if let Some(hook) = &mut self.hook {
            hook.hurry(left, self.hooks.len());
        }
    }

    /// When something is due, while components are left.
    pub(crate) fn wake_at(&self, running: &Running) -> Option<Instant> {
        let joining = self.joining.filter(|_| !running.is_empty())?;
        Some(joining.due_at(running.has(Role::Worker)))
    }

    /// Does what is due with the components that are left.
    pub(crate) fn on_time(&mut self, running: &mut Running, now_ms: u64) -> Overdue {
        let has_workers = running.has(Role::Worker);
        let Some(joining) = &mut self.joining else { return Overdue::Nothing };
        if Instant::now() < joining.due_at(has_workers) {
            return Overdue::Nothing;
        }
        joining.step += 1;
        // Tasks were dropped and named before; these were to end by themselves.
        let is_late: fn(Role) -> bool = match joining.step {
            1 => |role| role == Role::Server,
            2 if has_workers => |role| role == Role::Worker,
            _ => return Overdue::GivenUp(running.give_up()),
        };
        let late = running.blockers(now_ms, is_late);
        running.abort(|role| role == Role::Task || is_late(role));
        Overdue::Aborted(late)
    }

    pub(crate) fn is_running_a_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Starts the next hook; `false` when none is left.
    pub(crate) fn start_next(&mut self, left: Duration, on: Option<&runtime::Handle>) -> bool {
        debug_assert!(self.hook.is_none(), "invariant 2");
        let (Some(on), Some(hook)) = (on, self.hooks.pop()) else { return false };
        self.hook = Some(hook.start(left, self.hooks.len(), on));
        true
    }

    /// The end of the hook that runs.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub(crate) async fn hook_end(&mut self) -> End {
        match &mut self.hook {
            Some(hook) => hook.end().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn take_hook(&mut self, end: End) -> Option<EndedHook> {
        let hook = self.hook.take()?;
        let took = hook.since.elapsed();
        Some(EndedHook { name: hook.name, end, took })
    }

    /// Gives up the hook that runs and those that never began.
    pub(crate) fn give_up(&mut self) -> Vec<EndedHook> {
        let end = self.hook.as_mut().map(RunningHook::give_up);
        let running = end.and_then(|end| self.take_hook(end));
        let never = self.hooks.drain(..).rev().map(|hook| EndedHook {
            name: hook.discard(),
            end: End::NotRun,
            took: Duration::ZERO,
        });
        running.into_iter().chain(never).collect()
    }

    /// The hook that runs, as what is being waited for.
    pub(crate) fn blocker(&self) -> Option<Blocker> {
        let hook = self.hook.as_ref()?;
        let (name, age) = (hook.name.clone(), hook.since.elapsed());
        Some(Blocker { kind: Kind::Hook, name, age, stage: Stage::Working })
    }
}
