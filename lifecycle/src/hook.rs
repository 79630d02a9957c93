//! Close hooks: named, in reverse order of registration, each with a limit of its own.
//!
//! Not here: when they run (`coordinator`).

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::component::{BoxFuture, Outcome};
use crate::report::End;
use crate::running::{end_of, ended};

pub(crate) struct Hook {
    pub(crate) name: String,
    limit: Option<Duration>,
    future: BoxFuture,
}

/// The hook that runs now.
#[derive(Debug)]
pub(crate) struct RunningHook {
    pub(crate) name: String,
    pub(crate) since: Instant,
    ends: Instant,
    task: JoinHandle<End>,
}

impl Hook {
    pub(crate) fn new<F>(name: String, limit: Option<Duration>, future: F) -> Self
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        Self { name, limit, future: Box::pin(async move { future.await.into_result() }) }
    }

    /// Starts it; `left` is the time until the exit, `after` the number of hooks behind it.
    pub(crate) fn start(self, left: Duration, after: usize, on: &runtime::Handle) -> RunningHook {
        let since = Instant::now();
        let ends = since + limit(self.limit, left, after);
        RunningHook { name: self.name, since, ends, task: on.spawn(ended(self.future)) }
    }

    /// Its name; what it was to do is dropped, and may panic in that.
    pub(crate) fn discard(self) -> String {
        let Self { name, future, .. } = self;
        // Told by the panic hook; it ran nothing that could tell more.
        drop(catch_unwind(AssertUnwindSafe(|| drop(future))));
        name
    }
}

impl RunningHook {
    /// Waits for its end or its limit, whichever comes first.
    ///
    /// # Cancel safety
    /// Cancel safe: call again to keep waiting.
    pub(crate) async fn end(&mut self) -> End {
        tokio::select! {
            biased;
            joined = &mut self.task => match joined {
                Ok(end) => end,
                Err(error) => end_of(error),
            },
            () = tokio::time::sleep_until(self.ends) => self.give_up(),
        }
    }

    /// Less is left than when it began.
    pub(crate) fn hurry(&mut self, left: Duration, after: usize) {
        self.ends = self.ends.min(Instant::now() + limit(None, left, after));
    }

    pub(crate) fn give_up(&mut self) -> End {
        self.task.abort();
        End::Aborted
    }
}

/// How long a hook may take: its own limit, but never more than half of what is left while
/// others wait behind it, so that one that hangs does not skip the rest.
fn limit(own: Option<Duration>, left: Duration, after: usize) -> Duration {
    let most = if after == 0 { left } else { left / 2 };
    own.map_or(most, |own| own.min(most))
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_when_it_is_dropped_unrun_is_discarded() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on purpose");
            }
        }
        let bomb = Bomb;
        let hook = Hook::new("never".to_owned(), None, async move { drop(bomb) });
        assert_eq!(hook.discard(), "never");
    }

    #[test]
    fn a_hook_leaves_half_of_the_time_to_those_behind_it() {
        let s = Duration::from_secs;
        assert_eq!(limit(None, s(4), 0), s(4));
        assert_eq!(limit(None, s(4), 3), s(2));
        assert_eq!(limit(Some(s(1)), s(4), 3), s(1));
        assert_eq!(limit(Some(s(9)), s(4), 0), s(4));
        assert_eq!(limit(Some(s(9)), s(4), 1), s(2));
    }
}
