//! The account of a load: one outcome for each request, none repeated, none forgotten.

use std::{collections::BTreeMap, fmt};

use crate::client::Fate;

/// Counts what became of requests. Every request counts once.
///
/// # Examples
/// ```
/// use lifecycle_drill::{Fate, Ledger};
///
/// let mut ledger = Ledger::new();
/// ledger.add(Fate::Answered { status: 200, close: false });
/// ledger.add(Fate::Refused);
/// assert_eq!((ledger.answered(), ledger.lost()), (1, 0));
/// assert_eq!(ledger.to_string(), "2 requests: 1 answered 200, 1 refused; 0 lost");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Ledger {
    counts: BTreeMap<Fate, u64>,
}

impl Ledger {
    /// An empty account.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one request.
    pub fn add(&mut self, fate: Fate) {
        *self.counts.entry(fate).or_default() += 1;
    }

    /// Adds the counts of another account.
    pub fn merge(&mut self, other: &Self) {
        for (fate, count) in &other.counts {
            *self.counts.entry(*fate).or_default() += count;
        }
    }

    /// How many requests there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many got a whole answer, whatever its status.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.count(Fate::is_answered)
    }

    /// How many were answered with a status of 500 or above.
    #[must_use]
    pub fn server_errors(&self) -> u64 {
        self.count(|fate| matches!(fate, Fate::Answered { status: 500.., .. }))
    }

    /// How many were sent and got no whole answer ([`Fate::is_lost`]).
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.count(Fate::is_lost)
    }

    /// How many met a fate that fits.
    #[must_use]
    pub fn count(&self, fits: impl Fn(Fate) -> bool) -> u64 {
        self.counts.iter().filter(|(fate, _)| fits(**fate)).map(|(_, count)| count).sum()
    }

    /// Each fate that was met, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Fate, u64)> + '_ {
        self.counts.iter().map(|(fate, count)| (*fate, *count))
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests: ", self.total())?;
        for (index, (fate, count)) in self.counts.iter().enumerate() {
            write!(f, "{}{count} {fate}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, "; {} lost", self.lost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_counts_once_also_after_a_merge() {
        let mut one = Ledger::new();
        one.add(Fate::Answered { status: 200, close: true });
        one.add(Fate::Answered { status: 503, close: true });
        one.add(Fate::Truncated);
        let mut two = Ledger::new();
        two.add(Fate::Truncated);
        two.add(Fate::Refused);
        two.merge(&one);
        assert_eq!(two.total(), 5);
        assert_eq!((two.answered(), two.server_errors(), two.lost()), (2, 1, 2));
        assert_eq!(
            two.to_string(),
            "5 requests: 1 answered 200 with close, 1 answered 503 with close, 1 refused, \
             2 truncated; 2 lost"
        );
        assert_eq!(two.iter().count(), 4);
    }
}
