//! When a connection may be closed: the rules of the drain for one connection.
//!
//! Pure: facts and times in, a decision out.
//!
//! # Invariants
//! 1. A connection with a request in flight is never closed before `Closing`.
//! 2. Without one, every connection is bounded in every phase: by its head's or its
//!    keep-alive timeout while running, by the idle drain timeout from the drain on.
//! 3. Nothing is closed at the drain before a last look found nothing to read.
//! 4. A connection that had a request at the hard stop is closed as in the drain, so that
//!    its answer is not lost with it; any other is closed at once.

use std::time::Duration;

use lifecycle::Phase;
use tokio::time::Instant;

/// How long a connection may do what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) header_read_timeout: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) idle_drain_timeout: Duration,
    pub(crate) max_connection_age: Option<Duration>,
}

impl Limits {
    /// When a connection that is accepted now is old, if ever; `draw` lies between 0 and 1.
    pub(crate) fn old_at(&self, now: Instant, draw: impl FnOnce() -> f64) -> Option<Instant> {
        // Longer than the clock can count is for ever.
        let seconds =
            self.max_connection_age?.as_secs_f64() * (1.0 - JITTER + 2.0 * JITTER * draw());
        now.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Too few bytes to tell.
    Unknown,
    Http1,
    Http2,
}

/// What is known of a connection at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) phase: Phase,
    pub(crate) protocol: Protocol,
    /// A request is in flight, or its response is not wholly with the socket.
    pub(crate) busy: bool,
    /// Bytes came since the last complete head.
    pub(crate) part_of_a_head: bool,
    /// The last response was a stream that the drain has ended.
    pub(crate) stream_ended: bool,
    /// A lingering close has a bound of its own.
    pub(crate) lingering: bool,
    pub(crate) now: Instant,
    /// When the last byte moved, or the connection was accepted.
    pub(crate) last_active: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Wait for an event, or for this moment if there is one.
    Wait(Option<Instant>),
    /// Tell the HTTP/2 peer to go (GOAWAY), then decide again.
    GoAway,
    /// Look at the socket once more, then close unless something came.
    LastLook,
    /// Close at once.
    Close,
}

/// What has to be remembered of a connection from one decision to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rule {
    /// When an HTTP/2 connection is told to go, whatever it does. An HTTP/1 connection is
    /// told by its responses and needs no timer.
    old_at: Option<Instant>,
    /// A request was in flight at the last decision, or has been since the hard stop.
    owes: bool,
    /// When the head that is being read began.
    head_since: Option<Instant>,
    /// GOAWAY was sent at that moment.
    told: Option<Instant>,
    /// In the drain, without a request: the silence that counts began then.
    quiet_since: Option<Instant>,
    /// How many last looks have found something, and how long that has to arrive.
    found: u8,
    found_until: Option<Instant>,
}

impl Rule {
    pub(crate) fn new(old_at: Option<Instant>) -> Self {
        Self { old_at, ..Self::default() }
    }

    pub(crate) fn decide(&mut self, facts: &Facts, limits: &Limits) -> Decision {
        self.head_since = match (facts.part_of_a_head && !facts.busy, self.head_since) {
            (false, _) => None,
            (true, None) => Some(facts.last_active),
            (true, since) => since,
        };
        self.owes = facts.busy || (self.owes && facts.phase == Phase::Cancelling);
        let decision = match facts.phase {
            Phase::Closing | Phase::Stopped => Decision::Close,
            Phase::Cancelling if !self.owes => Decision::Close,
            Phase::Draining | Phase::Cancelling => self.drain(facts, limits),
            _ => self.serve(facts, limits),
        };
        if facts.busy {
            // What was found was a request.
            self.found = 0;
        }
        match self.found_until {
            Some(until) if decision == Decision::LastLook && until > facts.now => {
                Decision::Wait(Some(until))
            }
            _ => decision,
        }
    }

    /// Notes that a last look found something: it gets its time, a few times at most. Whether
    /// it does.
    pub(crate) fn found(&mut self, now: Instant) -> bool {
        self.found += 1;
        self.found_until = Some(now + FOUND_TIME);
        self.found <= FOUND_MOST
    }

    /// Notes that GOAWAY was sent.
    pub(crate) fn told(&mut self, now: Instant) {
        self.told = Some(now);
    }

    fn serve(&self, facts: &Facts, limits: &Limits) -> Decision {
        let tells = facts.protocol == Protocol::Http2 && self.told.is_none();
        let old_at = self.old_at.filter(|_| tells);
        if old_at.is_some_and(|at| at <= facts.now) {
            return Decision::GoAway;
        }
        if facts.busy || facts.lingering {
            return Decision::Wait(old_at);
        }
        let (since, limit) = match (facts.protocol, self.head_since, self.told) {
            // Its answer to the GOAWAY is all that we wait for.
            (Protocol::Http2, _, Some(told)) => (told, limits.header_read_timeout),
            (Protocol::Http2, ..) | (_, None, _) => (facts.last_active, limits.keep_alive_timeout),
            (_, Some(since), _) => (since, limits.header_read_timeout),
        };
        match since.checked_add(limit) {
            // Longer than the clock can count is for ever.
            None => Decision::Wait(old_at),
            Some(ends) if ends > facts.now => {
                Decision::Wait(Some(old_at.map_or(ends, |old| old.min(ends))))
            }
            Some(_) if facts.protocol == Protocol::Http2 && self.told.is_none() => Decision::GoAway,
            Some(_) => Decision::LastLook,
        }
    }

    fn drain(&mut self, facts: &Facts, limits: &Limits) -> Decision {
        if facts.protocol == Protocol::Http2 && self.told.is_none() {
            return Decision::GoAway;
        }
        if facts.busy || facts.lingering {
            self.quiet_since = None;
            return Decision::Wait(None);
        }
        if facts.stream_ended && !facts.part_of_a_head {
            // Its client waits for events, not for its turn to ask.
            return Decision::LastLook;
        }
        let quiet_since = match (facts.protocol, self.told) {
            // Its answer to our GOAWAY, or its last stream's end: other bytes ask for nothing.
            (Protocol::Http2, Some(told)) => told
                .max(*self.quiet_since.get_or_insert(facts.now.min(told.max(facts.last_active)))),
            _ => self.quiet_since(facts),
        };
        match quiet_since.checked_add(limits.idle_drain_timeout) {
            Some(ends) if ends <= facts.now => Decision::LastLook,
            ends => Decision::Wait(ends),
        }
    }

    /// The silence that counts for HTTP/1: since the last byte at the drain's beginning; a
    /// head that begins later gets its own time, once, so that a trickle of single bytes
    /// cannot hold the drain.
    fn quiet_since(&mut self, facts: &Facts) -> Instant {
        let since = *self.quiet_since.get_or_insert(facts.last_active);
        let since = self.head_since.map_or(since, |head| head.max(since));
        self.quiet_since = Some(since);
        since
    }
}

/// A tenth less or more, as grpc-go for its `MaxConnectionAge`, so that connections that were
/// made together do not end together.
const JITTER: f64 = 0.1;
/// A peer that has something on its way at each last look is not closing by chance.
const FOUND_MOST: u8 = 3;
/// For the runtime to hear of bytes that are in the socket: it does at once, unless its
/// threads are held.
const FOUND_TIME: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header_read_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_secs(75),
        idle_drain_timeout: Duration::from_secs(1),
        max_connection_age: None,
    };

    struct Case {
        rule: Rule,
        facts: Facts,
        start: Instant,
    }

    impl Case {
        fn new(protocol: Protocol, phase: Phase) -> Self {
            let start = Instant::now();
            let facts = Facts {
                phase,
                protocol,
                busy: false,
                part_of_a_head: false,
                stream_ended: false,
                lingering: false,
                now: start,
                last_active: start,
            };
            Self { rule: Rule::default(), facts, start }
        }

        fn at(&mut self, ms: u64) -> &mut Self {
            self.facts.now = self.start + Duration::from_millis(ms);
            self
        }

        fn byte(&mut self) -> &mut Self {
            self.facts.last_active = self.facts.now;
            self
        }

        fn head(&mut self, part: bool) -> &mut Self {
            self.facts.part_of_a_head = part;
            self
        }

        fn busy(&mut self, busy: bool) -> &mut Self {
            self.facts.busy = busy;
            self
        }

        fn phase(&mut self, phase: Phase) -> &mut Self {
            self.facts.phase = phase;
            self
        }

        fn decide(&mut self) -> Decision {
            self.rule.decide(&self.facts, &LIMITS)
        }

        fn until(&self, ms: u64) -> Decision {
            Decision::Wait(Some(self.start + Duration::from_millis(ms)))
        }
    }

    #[test]
    fn while_running_idle_and_slow_heads_have_their_own_limits() {
        let mut case = Case::new(Protocol::Http1, Phase::Running);
        assert_eq!(case.decide(), case.until(75_000));
        case.at(10_000).byte().head(true);
        assert_eq!(case.decide(), case.until(40_000));
        case.at(39_000).byte();
        assert_eq!(case.decide(), case.until(40_000), "from the head's first byte");
        assert_eq!(case.at(40_000).decide(), Decision::LastLook);
        assert_eq!(case.busy(true).decide(), Decision::Wait(None));
        case.busy(false).head(false).byte();
        assert_eq!(case.decide(), case.until(115_000), "keep-alive counts from the last byte");
        assert_eq!(case.phase(Phase::LameDuck).decide(), case.until(115_000), "and goes on");
    }

    #[test]
    fn while_running_an_idle_http2_peer_is_told_first() {
        let mut case = Case::new(Protocol::Http2, Phase::Running);
        assert_eq!(case.at(75_000).decide(), Decision::GoAway);
        case.rule.told(case.facts.now);
        assert_eq!(case.decide(), case.until(105_000));
        assert_eq!(case.at(105_000).decide(), Decision::LastLook);
    }

    #[test]
    fn at_the_drain_long_silence_ends_at_once_and_young_silence_gets_its_second() {
        for protocol in [Protocol::Unknown, Protocol::Http1] {
            let mut mute = Case::new(protocol, Phase::Draining);
            assert_eq!(mute.at(5_000).decide(), Decision::LastLook);
            let mut young = Case::new(protocol, Phase::Draining);
            assert_eq!(young.at(300).decide(), young.until(1_000));
            assert_eq!(young.at(1_000).decide(), Decision::LastLook);
        }
    }

    #[test]
    fn a_young_half_head_gets_its_second_but_a_trickle_does_not_get_more() {
        let mut case = Case::new(Protocol::Http1, Phase::Draining);
        case.at(700);
        assert_eq!(case.decide(), case.until(1_000));
        case.at(900).byte().head(true);
        assert_eq!(case.decide(), case.until(1_900), "its head began just now");
        for ms in [1_200, 1_500, 1_800] {
            case.at(ms).byte();
            assert_eq!(case.decide(), case.until(1_900), "a byte more is not a second more");
        }
        assert_eq!(case.at(1_900).decide(), Decision::LastLook);
    }

    #[test]
    fn a_half_head_from_before_the_drain_counts_from_its_last_byte() {
        let mut case = Case::new(Protocol::Http1, Phase::LameDuck);
        case.at(100).byte().head(true).decide();
        case.at(800).byte();
        case.decide();
        assert_eq!(case.at(900).phase(Phase::Draining).decide(), case.until(1_800));
    }

    #[test]
    fn a_request_holds_until_closing_and_then_the_connection_goes_at_once() {
        let mut case = Case::new(Protocol::Http1, Phase::Draining);
        assert_eq!(case.busy(true).at(9_000).decide(), Decision::Wait(None));
        assert_eq!(case.phase(Phase::Cancelling).decide(), Decision::Wait(None));
        assert_eq!(case.phase(Phase::Closing).decide(), Decision::Close);
        let mut done = Case::new(Protocol::Http1, Phase::Draining);
        done.busy(true).decide();
        done.at(500).byte().busy(false);
        assert_eq!(done.decide(), done.until(1_500), "its client may not have been told");
        done.facts.stream_ended = true;
        assert_eq!(done.decide(), Decision::LastLook, "its client was: the stream has ended");
        let mut more = Case::new(Protocol::Http1, Phase::Draining);
        more.busy(true).decide();
        more.at(500).byte().busy(false).head(true);
        assert_eq!(more.decide(), more.until(1_500), "the next head has begun to come");
    }

    #[test]
    fn http2_is_told_at_once_and_has_a_second_to_answer() {
        let mut case = Case::new(Protocol::Http2, Phase::Draining);
        assert_eq!(case.at(60_000).decide(), Decision::GoAway);
        case.rule.told(case.facts.now);
        assert_eq!(case.decide(), case.until(61_000));
        assert_eq!(case.at(61_000).decide(), Decision::LastLook);
        let mut busy = Case::new(Protocol::Http2, Phase::Draining);
        assert_eq!(busy.busy(true).decide(), Decision::GoAway, "busy or not");
        busy.rule.told(busy.facts.now);
        assert_eq!(busy.decide(), Decision::Wait(None));
        busy.at(3_000).byte().busy(false);
        assert_eq!(busy.decide(), busy.until(4_000));
        busy.at(3_500).byte();
        assert_eq!(busy.decide(), busy.until(4_000), "a PING is not a request");
    }

    #[test]
    fn a_limit_beyond_the_clock_is_none() {
        let limits = Limits {
            header_read_timeout: Duration::MAX,
            keep_alive_timeout: Duration::MAX,
            idle_drain_timeout: Duration::MAX,
            max_connection_age: Some(Duration::MAX),
        };
        assert_eq!(limits.old_at(Instant::now(), || 0.5), None);
        for phase in [Phase::Running, Phase::Draining] {
            let mut case = Case::new(Protocol::Http1, phase);
            assert_eq!(case.rule.decide(&case.facts, &limits), Decision::Wait(None));
        }
    }

    #[test]
    fn a_last_look_that_finds_something_gives_it_time_but_not_for_ever() {
        let mut case = Case::new(Protocol::Http1, Phase::Draining);
        for seconds in 5..8 {
            assert_eq!(case.at(seconds * 1_000).decide(), Decision::LastLook);
            assert!(case.rule.found(case.facts.now));
            assert_eq!(case.decide(), case.until(seconds * 1_000 + 500));
        }
        assert_eq!(case.at(8_000).decide(), Decision::LastLook);
        assert!(!case.rule.found(case.facts.now));
        assert_eq!(case.busy(true).decide(), Decision::Wait(None));
        assert!(case.rule.found(case.facts.now), "what was found was a request");
    }

    #[test]
    fn the_hard_stop_closes_what_has_no_request() {
        for protocol in [Protocol::Unknown, Protocol::Http1, Protocol::Http2] {
            let mut case = Case::new(protocol, Phase::Cancelling);
            assert_eq!(case.decide(), Decision::Close, "{protocol:?}");
        }
    }

    #[test]
    fn what_had_a_request_at_the_hard_stop_is_closed_as_in_the_drain() {
        let mut case = Case::new(Protocol::Http2, Phase::Draining);
        assert_eq!(case.busy(true).decide(), Decision::GoAway);
        case.rule.told(case.facts.now);
        assert_eq!(case.decide(), Decision::Wait(None));
        // The status of its last call is on its way, and its own end after that.
        case.at(8_000).byte().phase(Phase::Cancelling);
        assert_eq!(case.busy(false).decide(), case.until(9_000));
        case.facts.lingering = true;
        assert_eq!(case.decide(), Decision::Wait(None));
        case.facts.lingering = false;
        assert_eq!(case.at(9_000).decide(), Decision::LastLook, "a mute peer");
        assert_eq!(case.phase(Phase::Closing).decide(), Decision::Close);
        let mut late = Case::new(Protocol::Http1, Phase::Cancelling);
        assert_eq!(late.busy(true).decide(), Decision::Wait(None));
        assert_eq!(late.at(100).byte().busy(false).decide(), late.until(1_100));
    }

    #[test]
    fn an_old_http2_connection_is_told_once_and_its_streams_finish() {
        let mut case = Case::new(Protocol::Http2, Phase::Running);
        let old_at = case.start + Duration::from_secs(60);
        case.rule = Rule::new(Some(old_at));
        assert_eq!(case.decide(), case.until(60_000), "before its keep-alive time is over");
        assert_eq!(case.busy(true).decide(), case.until(60_000), "busy or not");
        assert_eq!(case.at(60_000).decide(), Decision::GoAway);
        case.rule.told(case.facts.now);
        assert_eq!(case.at(600_000).decide(), Decision::Wait(None), "its streams have no limit");
        assert_eq!(case.phase(Phase::Draining).decide(), Decision::Wait(None), "told once");
        let mut idle = Case::new(Protocol::Http2, Phase::Running);
        idle.rule = Rule::new(Some(idle.start + Duration::from_secs(100)));
        assert_eq!(idle.decide(), idle.until(75_000), "the earlier of the two");
        assert_eq!(idle.at(50_000).byte().decide(), idle.until(100_000));
    }

    #[test]
    fn an_old_http1_connection_is_told_by_its_responses_and_not_closed() {
        for protocol in [Protocol::Unknown, Protocol::Http1] {
            let mut case = Case::new(protocol, Phase::Running);
            case.rule = Rule::new(Some(case.start + Duration::from_secs(60)));
            assert_eq!(case.decide(), case.until(75_000), "no timer of its own");
            assert_eq!(case.at(60_000).busy(true).decide(), Decision::Wait(None));
        }
    }

    #[test]
    fn a_connection_is_old_a_tenth_before_or_after_its_limit() {
        let limits = Limits { max_connection_age: Some(Duration::from_secs(100)), ..LIMITS };
        let now = Instant::now();
        for (draw, seconds) in [(0.0, 90), (0.5, 100), (0.999_999_999, 110)] {
            let after = limits.old_at(now, || draw).expect("some time") - now;
            let off = after.abs_diff(Duration::from_secs(seconds));
            assert!(off < Duration::from_millis(1), "{draw}: {after:?}");
        }
        assert_eq!(LIMITS.old_at(now, || unreachable!("nothing is drawn")), None);
    }

    #[test]
    fn a_lingering_close_is_left_to_its_own_bound() {
        let mut case = Case::new(Protocol::Http1, Phase::Draining);
        case.facts.lingering = true;
        assert_eq!(case.at(9_000).decide(), Decision::Wait(None));
        assert_eq!(case.phase(Phase::Cancelling).decide(), Decision::Close);
    }
}
