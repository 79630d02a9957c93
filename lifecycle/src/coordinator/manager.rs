//! The service manager, as the coordinator sees it: told after every event. Without the
//! feature `systemd` there is none.

use tokio::time::Instant;

use super::Coordinator;
use crate::report::Report;

#[derive(Debug, Default)]
pub(super) struct Manager {
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    notifier: Option<Box<crate::systemd::Notifier>>,
    /// When it is to be told again though nothing has changed.
    next: Option<Instant>,
}

impl Manager {
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    pub(super) fn set(&mut self, notifier: Box<crate::systemd::Notifier>) {
        self.notifier = Some(notifier);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    #[cfg(all(target_os = "linux", feature = "systemd"))]
    pub(super) fn end(&mut self, report: &Report) {
        if let Some(notifier) = &mut self.notifier {
            notifier.end(report);
        }
    }

    #[cfg(not(all(target_os = "linux", feature = "systemd")))]
    #[expect(clippy::unused_self, reason = "there is nobody to tell")]
    pub(super) fn end(&mut self, _report: &Report) {}
}

impl Coordinator {
    #[cfg(all(target_os = "linux", feature = "systemd"))]
    pub(super) fn tell_manager(&mut self) {
        if let Some(mut notifier) = self.manager.notifier.take() {
            self.manager.next = notifier.follow(&self.shared, || self.blockers());
            self.manager.notifier = Some(notifier);
        }
    }

    #[cfg(not(all(target_os = "linux", feature = "systemd")))]
    pub(super) fn tell_manager(&mut self) {
        self.manager.next = None;
    }
}
