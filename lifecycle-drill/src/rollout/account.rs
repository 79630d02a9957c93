//! The account of a load: counts by kind, times, and how both went over time.

use std::{collections::BTreeMap, time::Duration};

use super::{
    histogram::{Histogram, micros},
    kind::Kind,
};

/// One request that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// When it was due, since the beginning of everything.
    pub(super) due: Duration,
    /// From when it was due to its outcome.
    pub(super) took: Duration,
    pub(super) kind: Kind,
    pub(super) protocol: &'static str,
    pub(super) method: &'static str,
}

/// All requests so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) by_kind: BTreeMap<Kind, u64>,
    /// By protocol and method.
    pub(super) sent: BTreeMap<(&'static str, &'static str), u64>,
    /// Of all answered requests.
    pub(super) always: Histogram,
    /// Of those that were due while replicas were being replaced.
    pub(super) rolling: Histogram,
    pub(super) slices: Vec<Slice>,
    /// The first that failed.
    pub(super) failures: Vec<Failure>,
    /// The longest time from when a request was due to its sending: how well the client kept up.
    pub(super) late_max: Duration,
    /// How many the balancer answered with 503 over HTTP/2.
    pub(super) turned_away_http2: u64,
    /// When replicas were being replaced, since the beginning; the last may still go on.
    rolls: Vec<(Duration, Option<Duration>)>,
}

/// What happened to the requests that were due within one [`SLICE`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    pub(super) answered: u32,
    pub(super) refused: u32,
    pub(super) lost: u32,
    pub(super) max: Duration,
}

/// One request that failed, to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) done: Done,
    pub(super) why: String,
}

impl Account {
    pub(super) fn add(&mut self, done: Done, why: impl FnOnce() -> String) {
        *self.by_kind.entry(done.kind).or_default() += 1;
        *self.sent.entry((done.protocol, done.method)).or_default() += 1;
        if (done.kind, done.protocol) == (Kind::Balancer(503), HTTP2) {
            self.turned_away_http2 += 1;
        }
        let at = usize::try_from(micros(done.due) / micros(SLICE)).unwrap_or(usize::MAX);
        let at = at.min(SLICES_MOST - 1);
        if self.slices.len() <= at {
            self.slices.resize(at + 1, Slice::default());
        }
        if let Some(slice) = self.slices.get_mut(at) {
            slice.max = slice.max.max(done.took);
            match done.kind {
                Kind::Answered => slice.answered += 1,
                kind if kind.is_lost() => slice.lost += 1,
                _ => slice.refused += 1,
            }
        }
        if done.kind.is_failure() {
            if self.failures.len() < FAILURES_KEPT {
                self.failures.push(Failure { done, why: why() });
            }
            return;
        }
        self.always.add(done.took);
        let is_within = |(from, to): &(Duration, Option<Duration>)| {
            *from <= done.due && to.is_none_or(|to| done.due <= to)
        };
        // The newest first: what is over was due not long ago.
        if self.rolls.iter().rev().take(ROLLS_LOOKED_AT).any(is_within) {
            self.rolling.add(done.took);
        }
    }

    pub(super) fn roll_begins(&mut self, at: Duration) {
        self.rolls.push((at, None));
    }

    pub(super) fn roll_ends(&mut self, at: Duration) {
        if let Some(roll) = self.rolls.last_mut() {
            roll.1 = Some(at);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }

    pub(super) fn count(&self, fits: impl Fn(Kind) -> bool) -> u64 {
        self.by_kind.iter().filter(|(kind, _)| fits(**kind)).map(|(_, count)| count).sum()
    }
}

/// What one bar of the picture stands for.
pub(super) const SLICE: Duration = Duration::from_millis(200);
/// More than a day.
const SLICES_MOST: usize = 500_000;
const FAILURES_KEPT: usize = 50;
/// A request does not outlast more rolls than this.
const ROLLS_LOOKED_AT: usize = 20;
/// What an account calls the protocols.
pub(super) const HTTP1: &str = "h1";
pub(super) const HTTP2: &str = "h2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_counts_once_in_each_table() {
        let mut account = Account::default();
        let ms = Duration::from_millis;
        let done =
            |due, kind| Done { due: ms(due), took: ms(3), kind, protocol: "h1", method: "GET" };
        account.add(done(0, Kind::Answered), String::new);
        account.roll_begins(ms(200));
        account.add(done(250, Kind::Answered), String::new);
        account.add(done(250, Kind::Balancer(503)), || "why".into());
        account.add(done(399, Kind::Balancer(502)), || "why".into());
        account.roll_ends(ms(400));
        assert_eq!((account.total(), account.count(Kind::is_failure)), (4, 2));
        assert_eq!((account.always.total(), account.rolling.total()), (2, 1));
        let slices: Vec<_> =
            account.slices.iter().map(|one| (one.answered, one.refused, one.lost)).collect();
        assert_eq!(slices, [(1, 0, 0), (1, 1, 1)]);
        assert_eq!(account.failures.len(), 2);
        assert_eq!(account.sent[&("h1", "GET")], 4);
        // Told late: it was due before the roll, or after it.
        account.add(done(199, Kind::Answered), String::new);
        account.add(done(401, Kind::Answered), String::new);
        assert_eq!(account.rolling.total(), 1);
        account.add(Done { protocol: HTTP2, ..done(1, Kind::Balancer(503)) }, String::new);
        assert_eq!(account.turned_away_http2, 1);
    }
}
