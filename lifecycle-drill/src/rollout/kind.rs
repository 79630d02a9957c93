//! The outcomes of a request that goes through a balancer.

use std::fmt;

use crate::client::Fate;

/// What became of one request. Everything but [`Answered`](Self::Answered) is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The service answered with a status of 200 to 299.
    Answered,
    /// The balancer answered in its place: 503 when it could not hand it to any replica, 502
    /// when a replica took it and gave no answer, 504 when that took too long.
    Balancer(u16),
    /// No whole answer came, by the fate that the client saw.
    Failed(Fate),
    /// The service answered with another status.
    Status(u16),
}

impl Kind {
    /// By the status of a whole answer, and whether the balancer has signed it.
    pub(super) fn of_answer(status: u16, by_balancer: bool) -> Self {
        match status {
            _ if by_balancer => Self::Balancer(status),
            200..300 => Self::Answered,
            _ => Self::Status(status),
        }
    }

    /// Whether it is a failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self != Self::Answered
    }

    /// Whether a replica may have taken the request, and no answer of it came: what a client
    /// cannot safely repeat.
    #[must_use]
    pub fn is_lost(self) -> bool {
        match self {
            Self::Balancer(status) => status != 503,
            Self::Failed(fate) => fate.is_lost(),
            Self::Answered | Self::Status(_) => false,
        }
    }

    /// The name in `--json`: lower case, with underscores.
    #[must_use]
    pub fn key(self) -> String {
        match self {
            Self::Answered => "answered_2xx".to_owned(),
            Self::Balancer(status) => format!("balancer_{status}"),
            Self::Status(status) => format!("answered_{status}"),
            Self::Failed(fate) => {
                let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == ' ';
                let words: String = fate.name().chars().filter(|one| plain(*one)).collect();
                words.replace(' ', "_")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered 2xx"),
            Self::Balancer(status) => write!(f, "{status} by the balancer"),
            Self::Failed(fate) => f.write_str(fate.name()),
            Self::Status(status) => write!(f, "answered {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_replica_may_have_taken_is_lost() {
        let lost = [
            Kind::Balancer(502),
            Kind::Balancer(504),
            Kind::Failed(Fate::EofBeforeResponse),
            Kind::Failed(Fate::TimedOut),
        ];
        let safe = [
            Kind::Answered,
            Kind::Balancer(503),
            Kind::Status(503),
            Kind::Failed(Fate::Refused),
            Kind::Failed(Fate::NotProcessed),
        ];
        assert!(lost.iter().all(|kind| kind.is_lost() && kind.is_failure()));
        assert!(!safe.iter().any(|kind| kind.is_lost()));
        assert_eq!(safe.iter().filter(|kind| kind.is_failure()).count(), 4);
    }

    #[test]
    fn a_signed_answer_is_the_balancers_whatever_its_status() {
        assert_eq!(Kind::of_answer(202, false), Kind::Answered);
        assert_eq!(Kind::of_answer(503, false), Kind::Status(503));
        assert_eq!(Kind::of_answer(503, true), Kind::Balancer(503));
        assert_eq!(Kind::Failed(Fate::NotProcessed).key(), "not_processed_says_the_server");
    }
}
