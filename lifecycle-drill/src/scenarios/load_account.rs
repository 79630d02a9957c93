//! What the clients of a load saw, and when: before the signal, in the lame duck, or later.

use crate::{
    client::Fate,
    flaw::{Flaw, ensure},
    ledger::Ledger,
};

/// When something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    BeforeSignal,
    /// Between the signal and the time when the listener may close.
    LameDuck,
    Later,
}

/// What one client saw, or all of them together.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) all: Ledger,
    before_signal: Ledger,
    since_signal: Ledger,
    /// Connects that failed in the lame duck.
    turned_away: Ledger,
}

/// Whether a connection was made, when a request's fate is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Failed,
    Made,
}

impl Account {
    /// Counts one request.
    pub(super) fn add(&mut self, fate: Fate, when: When, connection: Connection) {
        self.all.add(fate);
        match when {
            When::BeforeSignal => self.before_signal.add(fate),
            When::LameDuck | When::Later => self.since_signal.add(fate),
        }
        let of_server = connection == Connection::Failed && !fate.is_of_this_machine();
        if when == When::LameDuck && of_server {
            self.turned_away.add(fate);
        }
    }

    /// Adds what another has seen.
    pub(super) fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.before_signal.merge(&other.before_signal);
        self.since_signal.merge(&other.since_signal);
        self.turned_away.merge(&other.turned_away);
    }

    /// This machine must have had what the clients need.
    pub(super) fn can_be_judged(&self) -> Result<(), Flaw> {
        match self.all.count(|fate| fate == Fate::NoDescriptor) {
            0 => Ok(()),
            _ => {
                let all = &self.all;
                Err(Flaw::Unjudged(format!("too few descriptors for the load (ulimit -n): {all}")))
            }
        }
    }

    /// Everything answered, and as before the signal, when the quick route had this status.
    pub(super) fn judge(&self, quick_status: u16, stop_count: u32) -> Result<(), Flaw> {
        self.can_be_judged()?;
        let all = &self.all;
        ensure(all.answered() > 0, || format!("no request was answered at all: {all}"))?;
        ensure(all.lost() == 0, || format!("requests lost in {stop_count} stops: {all}"))?;
        let away = &self.turned_away;
        ensure(away.total() == 0, || {
            format!("connections turned away in the lame duck of {stop_count} stops: {away}")
        })?;
        let since = &self.since_signal;
        let is_other = |fate: Fate| {
            fate.is_answered() && fate.status() != Some(quick_status) && !self.is_as_before(fate)
        };
        let refused = since.count(|fate| is_other(fate) && fate.status() >= Some(500));
        ensure(refused == 0, || format!("requests refused by 5xx: {since}"))?;
        let other = since.count(is_other);
        ensure(other == 0, || {
            format!("{other} requests answered otherwise than before the signal: {since}")
        })
    }

    /// Whether that status is about as frequent since the signal as it was before.
    fn is_as_before(&self, fate: Fate) -> bool {
        let like = |ledger: &Ledger| ledger.count(|other| other.status() == fate.status());
        let (before, since) = (&self.before_signal, &self.since_signal);
        let may_be = like(before).saturating_mul(since.answered()).saturating_mul(2);
        let is = like(since).saturating_sub(FEW).saturating_mul(before.answered());
        like(before) > 0 && is <= may_be
    }
}

/// What chance alone may add.
const FEW: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Fate {
        Fate::Answered { status, close: true }
    }

    fn seen(fates: &[(Fate, When, Connection)]) -> String {
        let mut account = Account::default();
        for (fate, when, connection) in fates {
            let mut one = Account::default();
            one.add(*fate, *when, *connection);
            account.merge(&one);
        }
        account.judge(200, 1).map_or_else(|flaw| flaw.to_string(), |()| "pass".to_owned())
    }

    #[test]
    fn answers_as_before_the_signal_pass_and_others_do_not() {
        use Connection::Made;
        use When::{BeforeSignal, LameDuck, Later};
        assert_eq!(
            seen(&[(answered(200), BeforeSignal, Made), (answered(200), Later, Made)]),
            "pass"
        );
        let limited = [(answered(429), BeforeSignal, Made), (answered(429), LameDuck, Made)];
        assert_eq!(seen(&limited), "pass");
        let shed = [(answered(200), BeforeSignal, Made), (answered(503), BeforeSignal, Made)];
        assert_eq!(seen(&[&shed[..], &[(answered(503), Later, Made)]].concat()), "pass");
        let once = [&shed[..], &[(answered(200), BeforeSignal, Made); 98]].concat();
        let often = [&once[..], &[(answered(503), Later, Made); 10]].concat();
        assert!(seen(&often).contains("5xx"), "one of a hundred before, all since");
        let turned_away = [(answered(200), BeforeSignal, Made), (answered(429), LameDuck, Made)];
        assert!(seen(&turned_away).contains("answered otherwise"));
        assert!(seen(&[(answered(404), Later, Made)]).contains("1 answered 404"));
        assert!(seen(&[(answered(503), Later, Made)]).contains("5xx"));
        let lost = [(answered(200), Later, Made), (Fate::Truncated, Later, Made)];
        assert!(seen(&lost).contains("lost"));
        assert!(seen(&[(Fate::Refused, Later, Connection::Failed)]).contains("at all"));
    }

    #[test]
    fn connects_may_fail_only_after_the_lame_duck() {
        use Connection::{Failed, Made};
        let with = |fate, when, connection| {
            seen(&[(answered(200), When::BeforeSignal, Made), (fate, when, connection)])
        };
        for fate in [Fate::Refused, Fate::ResetInConnect, Fate::ConnectTimedOut] {
            assert!(with(fate, When::LameDuck, Failed).contains("turned away"), "{fate}");
            assert_eq!(with(fate, When::Later, Failed), "pass", "{fate}");
        }
        // Of a connection that was kept: it was seen to have ended in order.
        assert_eq!(with(Fate::NotSent, When::LameDuck, Made), "pass");
        // Says nothing of the server.
        assert_eq!(with(Fate::NoLocalPort, When::LameDuck, Failed), "pass");
        assert!(with(Fate::NoDescriptor, When::LameDuck, Failed).contains("too few descriptors"));
    }
}
