//! What becomes of a job whose handler has ended.
//!
//! Pure: how it ended, the attempt and the policy in; what to tell the queue out.

use std::time::Duration;

use crate::error::{BoxError, JobError, chain};
use crate::job::CancelReason;
use crate::queue::Next;
use crate::retry::Retry;

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was not begun: earlier attempts used up all there are.
    Exhausted,
    /// It panicked, with these words.
    Panicked(String),
    /// It returned.
    Returned(Result<(), BoxError>),
    /// It did not stop in time after its timeout and was dropped.
    TimedOut(Duration),
}

/// What the queue is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Fail { error: String, next: Next },
    Release,
}

impl Ended {
    /// `told`: why it had been told to stop, if it was.
    pub(crate) fn verdict(
        self,
        attempt: u32,
        retry: &Retry,
        told: Option<CancelReason>,
    ) -> Verdict {
        let again = |error: String, after: Option<Duration>| {
            let next = match (retry.delay_after(attempt), after) {
                (None, _) => Next::Dead,
                (Some(_), Some(after)) => Next::Retry(after),
                (Some(delay), None) => Next::Retry(delay),
            };
            Verdict::Fail { error, next }
        };
        let error = match self {
            Self::Returned(Ok(())) => return Verdict::Ack,
            Self::Exhausted => {
                let error = format!("its workers vanished: attempt {attempt} would be too many");
                return Verdict::Fail { error, next: Next::Dead };
            }
            Self::Panicked(message) => return again(format!("panicked: {message}"), None),
            Self::TimedOut(limit) => {
                return again(format!("timed out after {} ms", limit.as_millis()), None);
            }
            Self::Returned(Err(error)) => error,
        };
        match (error.downcast_ref::<JobError>(), told) {
            (Some(JobError::Dead { .. }), _) => {
                Verdict::Fail { error: chain(&*error), next: Next::Dead }
            }
            // Told to stop it has stopped, in whatever words.
            (_, Some(CancelReason::Shutdown { .. } | CancelReason::LeaseLost))
            | (Some(JobError::Stopped), None) => Verdict::Release,
            (_, Some(CancelReason::Timeout)) => {
                again(format!("timed out: {}", chain(&*error)), None)
            }
            (Some(JobError::Failed { after, .. }), None) => again(chain(&*error), *after),
            (None, None) => again(chain(&*error), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn returned(error: impl Into<BoxError>) -> Ended {
        Ended::Returned(Err(error.into()))
    }

    fn verdict(ended: Ended, attempt: u32, told: Option<CancelReason>) -> (&'static str, String) {
        let retry = Retry::new().attempts(3);
        match ended.verdict(attempt, &retry, told) {
            Verdict::Ack => ("ack", String::new()),
            Verdict::Release => ("release", String::new()),
            Verdict::Fail { error, next: Next::Dead } => ("dead", error),
            Verdict::Fail { error, next: Next::Retry(_) } => ("retry", error),
        }
    }

    #[test]
    fn what_becomes_of_a_job() {
        let limit = Duration::from_secs(2);
        let shutdown = Some(CancelReason::Shutdown { deadline: Instant::now() });
        let (lost, late) = (Some(CancelReason::LeaseLost), Some(CancelReason::Timeout));
        let dead = || JobError::dead("never");
        let table = [
            (Ended::Returned(Ok(())), 1, None, "ack", ""),
            (Ended::Returned(Ok(())), 1, shutdown, "ack", ""),
            (Ended::Returned(Ok(())), 3, late, "ack", ""),
            (returned("no"), 1, None, "retry", "no"),
            (returned("no"), 3, None, "dead", "no"),
            (returned("no"), 3, shutdown, "release", ""),
            (returned("no"), 1, lost, "release", ""),
            (returned("no"), 1, late, "retry", "timed out: no"),
            (returned(dead()), 1, None, "dead", "never"),
            (returned(dead()), 1, shutdown, "dead", "never"),
            (returned(JobError::Stopped), 3, None, "release", ""),
            (
                returned(JobError::Stopped),
                1,
                late,
                "retry",
                "timed out: stopped before it was done",
            ),
            (Ended::Panicked("boom".into()), 1, None, "retry", "panicked: boom"),
            (Ended::Panicked("boom".into()), 3, shutdown, "dead", "panicked: boom"),
            (Ended::TimedOut(limit), 1, late, "retry", "timed out after 2000 ms"),
            (Ended::TimedOut(limit), 3, late, "dead", "timed out after 2000 ms"),
            (
                Ended::Exhausted,
                4,
                None,
                "dead",
                "its workers vanished: attempt 4 would be too many",
            ),
        ];
        for (ended, attempt, told, what, error) in table {
            let shown = format!("{ended:?}, attempt {attempt}, {told:?}");
            assert_eq!(verdict(ended, attempt, told), (what, error.to_owned()), "{shown}");
        }
    }

    #[test]
    fn a_handler_may_say_how_long_to_wait() {
        let after = Duration::from_secs(77);
        let ended = returned(JobError::retry_after("busy", after));
        let verdict = ended.verdict(1, &Retry::new(), None);
        assert_eq!(verdict, Verdict::Fail { error: "busy".into(), next: Next::Retry(after) });
    }
}
