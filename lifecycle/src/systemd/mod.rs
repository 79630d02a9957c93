//! What systemd is told, and what it hands over: the notification protocol of sd_notify(3),
//! spoken from the control thread, and inherited sockets.
//!
//! Not here: what is said when (`script`), the datagrams (`link`), sockets (`inherited`).
//!
//! # Invariants
//! 1. Nothing here blocks or fails: a manager that cannot be reached is one WARN.

mod inherited;
mod link;
mod script;

use std::time::Duration;

use tokio::time::Instant;

pub use self::inherited::{Inherited, InheritedSocket};

use self::link::Link;
use self::script::{Line, Script, Seen};
use crate::blockers::Blocker;
use crate::command::Command;
use crate::lifecycle::Lifecycle;
use crate::report::Report;
use crate::shared::Shared;

/// Who decides how long systemd waits for a stop.
///
/// Default `AsConfigured`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopTimeout {
    /// The unit's `TimeoutStopSec` (90 s unless set). It must not be shorter than our grace
    /// period, or systemd kills a drain that we would have let finish.
    #[default]
    AsConfigured,
    /// Our grace period, where it is longer: systemd is asked (`EXTEND_TIMEOUT_USEC`) to wait
    /// until its end, at the cause and every 5 s, each time for what is left. It never waits
    /// less than `TimeoutStopSec` for that.
    Extend,
}

impl Lifecycle {
    /// Tells systemd how the process is, if it was started by it (`NOTIFY_SOCKET` in the
    /// environment, which is read now; without it this does nothing).
    ///
    /// What is said, from the control thread and never waiting: `READY=1` when the start is
    /// over (as `/startupz` says it; so use `Type=notify`), `STATUS=` with the phase and what a
    /// drain waits for, `STOPPING=1` when the shutdown begins, `RELOADING=1` and `READY=1` around
    /// reload hooks (`Type=notify-reload`). A socket that cannot be reached is one WARN in the
    /// log (`systemd.unreachable`).
    ///
    /// With `WatchdogSec=` (`WATCHDOG_USEC`, `WATCHDOG_PID`) also `WATCHDOG=1`, twice in that
    /// time, while `/livez` passes: a check or heart that fails lets systemd restart the process.
    /// The application's runtime is watched for it, as by [`watchdog`](Self::watchdog) with
    /// half of that time, at the cost of eight wake-ups in it. systemd does not watch before `READY=1`, and a shutdown ends its
    /// watch, since our own deadline sees to what is stuck.
    ///
    /// The variables stay as they are, so child processes inherit them: `NotifyAccess=main`, the
    /// default, lets systemd ignore what those say.
    ///
    /// # Examples
    /// ```no_run
    /// use lifecycle::{Lifecycle, Report, StopTimeout};
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<Report, Box<dyn std::error::Error>> {
    ///     let mut life = Lifecycle::from_env()?;
    ///     life.notify_systemd(StopTimeout::AsConfigured).await;
    ///     // open databases, spawn components
    ///     Ok(life.run().await?)
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// Dropped before it returns, systemd may or may not be told; call it again.
    pub async fn notify_systemd(&mut self, stop: StopTimeout) {
        let Some(manager) = Manager::from_env() else { return };
        if let Some(limit) = manager.heart_limit()
            && !self.is_registered(WATCHDOG)
        {
            self.watch_runtime(WATCHDOG, "runtime for systemd", limit);
        }
        let notifier = Box::new(Notifier::new(&manager, stop));
        // Ended already: there is nothing left to tell.
        drop(self.commands().send(Command::Notify(notifier)).await);
    }
}

/// What the environment says of the service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    socket: String,
    /// Within which time it wants to hear of us, if at all.
    watchdog: Option<Duration>,
}

/// Tells the manager, from the control thread.
#[derive(Debug)]
pub(crate) struct Notifier {
    link: Link,
    script: Script,
    began: Instant,
}

impl Manager {
    /// `None` without a `NOTIFY_SOCKET`. A watchdog is of whom `WATCHDOG_PID` says, or of all.
    pub(crate) fn read(var: impl Fn(&str) -> Option<String>, own_pid: u32) -> Option<Self> {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let socket = var("NOTIFY_SOCKET")?;
        let ours = var("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own_pid));
        let watchdog_us = var("WATCHDOG_USEC").filter(|_| ours).and_then(|us| us.parse().ok());
        let watchdog = watchdog_us.filter(|us| *us > 0).map(Duration::from_micros);
        Some(Self { socket, watchdog })
    }

    pub(crate) fn from_env() -> Option<Self> {
        let var = |name: &str| std::env::var_os(name)?.into_string().ok();
        Self::read(var, std::process::id())
    }

    /// How long the application's runtime may stand still: the manager, which waits twice as
    /// long from the last ping on, has the last word.
    pub(crate) fn heart_limit(&self) -> Option<Duration> {
        self.watchdog.map(|every| every / 2)
    }
}

impl Notifier {
    pub(crate) fn new(manager: &Manager, stop: StopTimeout) -> Self {
        let link = Link::new(&manager.socket);
        let script = Script::new(manager.watchdog, stop);
        Self { link, script, began: Instant::now() }
    }

    /// Says what has changed; returns when to look again, if at a time.
    pub(crate) fn follow(
        &mut self,
        shared: &Shared,
        blockers: impl FnOnce() -> Vec<Blocker>,
    ) -> Option<Instant> {
        let timeline = shared.timeline();
        let left = timeline.map(|line| line.budget.grace.saturating_sub(line.cause_at.elapsed()));
        let (reloads_asked, reloads_done) = shared.reload_counts();
        let seen = Seen {
            at: self.began.elapsed(),
            phase: shared.phase(),
            started: shared.is_started(),
            ready: shared.is_ready(),
            live: shared.is_live(),
            left: left.unwrap_or_default(),
            reloads_asked,
            reloads_done,
        };
        let lines = self.script.lines(&seen, blockers);
        // Not before `run`: the program may set its subscriber after the first line of `main`.
        let say = shared.has_run() || seen.phase.is_shutting_down();
        self.link.send(&lines, say);
        let retry = self.link.retry_after().map(|after| Instant::now() + after);
        let next = self.script.next_at().map(|at| self.began + at);
        [retry, next].into_iter().flatten().min()
    }

    /// The last word.
    pub(crate) fn end(&mut self, report: &Report) {
        self.link.send(&[Line::Status(format!("stopped: {}", report.exit_reason()))], true);
    }
}

/// The component that systemd's watchdog watches.
const WATCHDOG: &str = "systemd watchdog";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Option<Manager> {
        let var = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Manager::read(var, 77)
    }

    #[test]
    fn without_a_socket_there_is_no_manager() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "1")]), None);
    }

    #[test]
    fn a_watchdog_is_of_the_process_that_it_names() {
        let socket = ("NOTIFY_SOCKET", "/run/n");
        let usec = ("WATCHDOG_USEC", "3000000");
        let wanted = |pairs: &[_]| read(pairs).expect("a manager").heart_limit();
        let limit = Some(Duration::from_millis(1_500));
        assert_eq!(wanted(&[socket]), None);
        assert_eq!(wanted(&[socket, usec]), limit);
        assert_eq!(wanted(&[socket, usec, ("WATCHDOG_PID", "77")]), limit);
        assert_eq!(wanted(&[socket, usec, ("WATCHDOG_PID", "78")]), None);
        assert_eq!(wanted(&[socket, usec, ("WATCHDOG_PID", "x")]), None);
        for none in ["0", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(wanted(&[socket, ("WATCHDOG_USEC", none)]), None, "{none}");
        }
    }
}
