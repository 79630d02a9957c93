//! Whether a worker's queue answers: what its readiness check shows.

use std::sync::{Arc, Mutex};

use crate::error::BoxError;
use crate::sync::locked;

/// Shared by the worker and its check. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<Mutex<Answer>>);

#[derive(Debug, Default)]
enum Answer {
    #[default]
    NotYet,
    Failing(String),
    Good,
}

impl Standing {
    /// The queue has answered; whether it had failed before.
    pub(crate) fn answered(&self) -> bool {
        let before = std::mem::replace(&mut *locked(&self.0), Answer::Good);
        matches!(before, Answer::Failing(_))
    }

    pub(crate) fn failed(&self, error: String) {
        *locked(&self.0) = Answer::Failing(error);
    }

    pub(crate) fn check(&self) -> Result<(), BoxError> {
        match &*locked(&self.0) {
            Answer::Good => Ok(()),
            Answer::NotYet => Err("its queue has not answered yet".into()),
            Answer::Failing(error) => Err(error.clone().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_good_once_the_queue_has_answered_last() {
        let standing = Standing::default();
        assert!(standing.check().is_err());
        assert!(!standing.answered() && standing.check().is_ok());
        standing.failed("gone".into());
        assert_eq!(standing.clone().check().expect_err("it failed").to_string(), "gone");
        assert!(standing.answered() && standing.check().is_ok());
    }
}
