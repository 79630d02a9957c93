//! Whether a worker's queue answers: what its readiness check shows.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::BoxError;

/// Shared by the worker and its check. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<watch::Sender<Answer>>);

#[derive(Clone, Debug, Default)]
enum Answer {
    #[default]
    NotYet,
    Failing(String),
    Good,
}

impl Standing {
    /// The queue has answered; whether it had failed before.
    pub(crate) fn answered(&self) -> bool {
        let mut had_failed = false;
        // Nobody hears of what nothing changes: each claim says it.
        self.0.send_if_modified(|answer| {
            had_failed = matches!(answer, Answer::Failing(_));
            let changes = !matches!(answer, Answer::Good);
            *answer = Answer::Good;
            changes
        });
        had_failed
    }

    pub(crate) fn failed(&self, error: String) {
        self.0.send_replace(Answer::Failing(error));
    }

    /// How the queue has answered last; waits for its first answer, so that a worker does not
    /// begin by failing.
    pub(crate) async fn check(self) -> Result<(), BoxError> {
        let mut answers = self.0.subscribe();
        let answer = answers.wait_for(|answer| !matches!(answer, Answer::NotYet)).await?.clone();
        match answer {
            Answer::Failing(error) => Err(error.into()),
            Answer::Good | Answer::NotYet => Ok(()),
        }
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn is_good_when_the_queue_has_answered_last() {
        let standing = Standing::default();
        let mut first = task::spawn(standing.clone().check());
        assert_pending!(first.poll());
        assert!(!standing.answered());
        assert!(first.is_woken() && assert_ready!(first.poll()).is_ok());
        standing.failed("gone".into());
        let error = assert_ready!(task::spawn(standing.clone().check()).poll());
        assert_eq!(error.expect_err("it failed").to_string(), "gone");
        assert!(standing.answered());
        assert!(assert_ready!(task::spawn(standing.check()).poll()).is_ok());
    }
}
