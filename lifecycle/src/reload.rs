//! Reload hooks: what SIGHUP runs in a process that goes on.
//!
//! Not here: whether a SIGHUP is one of ours (`coordinator`).
//!
//! # Invariants
//! 1. One reload at a time; however many were asked for meanwhile are one more.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::component::{BoxFuture, Component, Outcome, Role, maker};
use crate::error::BoxError;
use crate::handle::Handle;
use crate::report::End;
use crate::running::{end_of, ended};
use crate::shared::Shared;
use crate::telemetry;

/// One hook, to be run any number of times.
pub(crate) struct Reload {
    name: String,
    hook: Box<dyn FnMut() -> BoxFuture + Send>,
}

/// The component that runs them when asked.
pub(crate) struct Reloads {
    hooks: Vec<Reload>,
    shared: Arc<Shared>,
}

impl Reload {
    pub(crate) fn new<F, Fut>(name: String, hook: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome,
    {
        let hook = maker(hook);
        Self { name, hook }
    }

    /// Runs it once, in a task of its own so that a panic is its own affair.
    async fn run(&mut self) -> End {
        let mut task = JoinSet::new();
        task.spawn(ended((self.hook)()));
        match task.join_next().await {
            None => End::Finished,
            Some(Ok(end)) => end,
            Some(Err(error)) => end_of(error),
        }
    }
}

impl Reloads {
    pub(crate) fn new(hooks: Vec<Reload>, shared: &Arc<Shared>) -> Self {
        Self { hooks, shared: Arc::clone(shared) }
    }

    async fn reload(&mut self, handle: &Handle) {
        for hook in &mut self.hooks {
            // Named among the blockers, should the drain have to wait for it.
            let Ok(_guard) = handle.enter(&format!("reload {}", hook.name)) else { return };
            let began = Instant::now();
            let end = hook.run().await;
            telemetry::reload_finished(&hook.name, &end, began.elapsed());
        }
    }
}

impl Component for Reloads {
    async fn run(mut self, handle: Handle) -> Result<(), BoxError> {
        let mut closing = std::pin::pin!(handle.reached(crate::Phase::Closing));
        let mut lame_duck = std::pin::pin!(handle.lame_duck());
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                () = &mut lame_duck => return Ok(()),
                () = shared.reload_asked() => {}
            }
            // One that is asked for while the hooks run is not among these.
            let (asked, _) = shared.reload_counts();
            tokio::select! {
                biased;
                () = &mut closing => return Ok(()),
                () = self.reload(&handle) => shared.reloaded(asked),
            }
        }
    }

    /// It names its own work, and ends by itself.
    fn role(&self) -> Role {
        Role::Worker
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("name", &self.name).finish_non_exhaustive()
    }
}
