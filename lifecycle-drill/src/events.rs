//! What happened and when, as data: what a timeline picture is drawn from.
//!
//! # Invariants
//! 1. The log is of one process: the last, or the first that lost a request.
//! 2. It is bounded: equal answers that follow each other closely are one event with a count,
//!    and beyond [`EVENTS_KEPT`] answers are left out, which is told; what was lost is not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::Fate,
    process::{Ended, Exit},
    signal::Signal,
};

/// Something that happened, with its time since the process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When it happened or began.
    pub at: Duration,
    /// What it was.
    pub what: What,
}

/// What can happen in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// From here on so many answers are not in the record, being too many.
    AnswersLeftOut {
        /// How many.
        count: u64,
    },
    /// A connection that a client had open for so long.
    Connection {
        /// Which client.
        client: u32,
        /// Until it was closed, by whomever.
        took: Duration,
    },
    /// The process ended.
    Exited(Ended),
    /// The main port no longer listens (as the kernel tells on Linux; elsewhere unknown).
    ListenerClosed,
    /// The readiness probe no longer answers 200.
    ReadinessFell,
    /// The process is ready.
    Ready,
    /// One request, or several equal ones in close succession.
    Request {
        /// Which client.
        client: u32,
        /// Method and path, as far as they were sent.
        name: String,
        /// From its first byte until its fate was known.
        took: Duration,
        /// How many.
        count: u32,
        /// What became of it; `None`: its client left before it knew.
        fate: Option<Fate>,
    },
    /// A signal was sent.
    Signal(Signal),
}

/// The shared, growing record of one process.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    began: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    client_count: u32,
    /// When the first answer was left out, and how many were.
    left_out: Option<(Duration, u64)>,
    /// Where each client's newest request stands in `events`.
    newest: BTreeMap<u32, usize>,
}

/// Writes down what one client does.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    log: Log,
    client: u32,
    connections: Connections,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    Kept,
    LeftOut,
}

/// A request under way. Written down when dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    tracer: Tracer,
    began: Instant,
    name: String,
    fate: Option<Fate>,
    forgotten: bool,
}

/// A connection with at most one request under way. Written down when dropped.
#[derive(Debug)]
pub(crate) struct Trace {
    tracer: Tracer,
    opened: Instant,
    closed: Option<Instant>,
    request: Option<Pending>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), inner: Arc::default() }
    }

    /// A client that is told apart from all others.
    pub(crate) fn client(&self) -> Tracer {
        let mut inner = self.locked();
        inner.client_count += 1;
        Tracer { log: self.clone(), client: inner.client_count, connections: Connections::Kept }
    }

    /// Something of the process, now.
    pub(crate) fn mark(&self, what: What) {
        self.mark_at(Instant::now(), what);
    }

    /// The end of the process; told again it changes nothing.
    pub(crate) fn exited(&self, exit: Exit) {
        let mut inner = self.locked();
        if inner.exited_at().is_some() {
            return;
        }
        let at = exit.at.saturating_duration_since(self.began);
        // Who looks now and then sees the end of these later than it was.
        let events = inner.events.iter_mut().filter(|event| event.what.ends_with_the_process());
        events.for_each(|event| event.at = event.at.min(at));
        inner.events.push(Event { at, what: What::Exited(exit.ended) });
    }

    /// The main port does not listen any more; told again it changes nothing.
    pub(crate) fn listener_closed(&self, at: Instant) {
        self.mark_end(at, What::ListenerClosed);
    }

    /// The readiness probe no longer answers 200; told again it changes nothing.
    pub(crate) fn readiness_fell(&self, at: Instant) {
        self.mark_end(at, What::ReadinessFell);
    }

    /// Whether any request was lost.
    pub(crate) fn has_lost(&self) -> bool {
        let lost = |event: &Event| match &event.what {
            What::Request { fate, .. } => fate.is_some_and(Fate::is_lost),
            _ => false,
        };
        self.locked().events.iter().any(lost)
    }

    /// All events in the order of their times.
    pub(crate) fn events(&self) -> Vec<Event> {
        let inner = self.locked();
        let mut events = inner.events.clone();
        let left_out = |(at, count)| Event { at, what: What::AnswersLeftOut { count } };
        events.extend(inner.left_out.map(left_out));
        drop(inner);
        events.sort_by_key(|event| event.at);
        events
    }

    pub(crate) fn mark_at(&self, at: Instant, what: What) {
        let at = at.saturating_duration_since(self.began);
        self.locked().events.push(Event { at, what });
    }

    /// The first of its kind, and no later than the end of the process.
    fn mark_end(&self, at: Instant, what: What) {
        debug_assert!(what.ends_with_the_process(), "{what:?}");
        let mut inner = self.locked();
        if inner.events.iter().all(|event| event.what != what) {
            let seen = at.saturating_duration_since(self.began);
            let at = inner.exited_at().map_or(seen, |exited| exited.min(seen));
            inner.events.push(Event { at, what });
        }
    }

    fn request(&self, client: u32, pending: &mut Pending, until: Instant) {
        let at = pending.began.saturating_duration_since(self.began);
        let end = until.saturating_duration_since(self.began);
        self.locked().request(client, at, end, pending);
    }

    /// A poisoned lock only means that a client panicked; the events are still events.
    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl What {
    /// Whether this is so at the latest once the process is gone.
    fn ends_with_the_process(&self) -> bool {
        matches!(self, Self::ListenerClosed | Self::ReadinessFell)
    }
}

impl Inner {
    fn exited_at(&self) -> Option<Duration> {
        let exited = |event: &&Event| matches!(event.what, What::Exited(_));
        self.events.iter().find(exited).map(|event| event.at)
    }

    fn request(&mut self, client: u32, at: Duration, end: Duration, pending: &mut Pending) {
        let fate = pending.fate;
        let newest = self.newest.get(&client).and_then(|index| self.events.get_mut(*index));
        if let Some(Event {
            at: first_at,
            what: What::Request { name, took, count, fate: last, .. },
        }) = newest
            && *last == fate
            && fate.is_some_and(Fate::is_answered)
            && *name == pending.name
            && end.saturating_sub(at) <= SHORT
            && at.saturating_sub(*first_at + *took) <= SHORT
        {
            *took = (*took).max(end.saturating_sub(*first_at));
            *count += 1;
            return;
        }
        if self.events.len() >= EVENTS_KEPT && fate.is_some_and(Fate::is_answered) {
            let (_, count) = self.left_out.get_or_insert((at, 0));
            *count += 1;
            return;
        }
        self.newest.insert(client, self.events.len());
        let name = std::mem::take(&mut pending.name);
        let took = end.saturating_sub(at);
        self.events.push(Event { at, what: What::Request { client, name, took, count: 1, fate } });
    }
}

impl Tracer {
    /// One more client like this, whose connections are too many to write down.
    pub(crate) fn one_of_many(&self) -> Self {
        Self { connections: Connections::LeftOut, ..self.log.client() }
    }

    /// A request that begins now.
    pub(crate) fn request(&self, name: String) -> Pending {
        Pending { tracer: self.clone(), began: Instant::now(), name, fate: None, forgotten: false }
    }

    /// A connection that was opened now.
    pub(crate) fn connection(&self) -> Trace {
        let opened = Instant::now();
        Trace { tracer: self.clone(), opened, closed: None, request: None }
    }
}

impl Pending {
    /// Its fate is known.
    pub(crate) fn end(mut self, fate: Fate) {
        self.fate = Some(fate);
    }

    /// It is not to be written down.
    pub(crate) fn forget(mut self) {
        self.forgotten = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        let log = self.tracer.log.clone();
        log.request(self.tracer.client, self, Instant::now());
    }
}

impl Trace {
    /// Bytes are sent: of the request under way, or the first of a new one.
    pub(crate) fn sends(&mut self, bytes: &[u8]) {
        if self.request.is_none() && !bytes.is_empty() && !bytes.starts_with(HTTP2) {
            self.request = Some(self.tracer.request(name_of(bytes)));
        }
    }

    /// Bytes are waited for: of the request under way, or of one behind it in its packet.
    pub(crate) fn waits(&mut self) {
        if self.request.is_none() {
            self.request = Some(self.tracer.request("(pipelined)".to_owned()));
        }
    }

    /// The fate of the request under way is known.
    pub(crate) fn ends(&mut self, fate: Fate) {
        if let Some(request) = self.request.take() {
            request.end(fate);
        }
    }

    /// The peer has closed the connection.
    pub(crate) fn closes(&mut self) {
        self.closed.get_or_insert_with(Instant::now);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let Tracer { log, client, connections } = &self.tracer;
        if *connections == Connections::Kept {
            let closed = self.closed.unwrap_or_else(Instant::now);
            let took = closed.saturating_duration_since(self.opened);
            log.mark_at(self.opened, What::Connection { client: *client, took });
        }
    }
}

/// Method and path, as far as they are there.
fn name_of(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let name = line.split(" HTTP/").next().unwrap_or_default();
    name.chars().take(NAME_LENGTH_MAX).collect()
}

const EVENTS_KEPT: usize = 4_000;
const NAME_LENGTH_MAX: usize = 80;
/// What begins sooner after the last, and takes no longer, is drawn as one with it.
const SHORT: Duration = Duration::from_millis(20);
/// How the first bytes of HTTP/2 begin, which are no request.
const HTTP2: &[u8] = b"PRI";

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Fate = Fate::Answered { status: 200, close: false };

    fn requests(log: &Log) -> Vec<(u32, Option<Fate>)> {
        let requests = log.events().into_iter().filter_map(|event| match event.what {
            What::Request { count, fate, .. } => Some((count, fate)),
            _ => None,
        });
        requests.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn equal_answers_in_close_succession_are_one_event() {
        let log = Log::new();
        let client = log.client();
        for _ in 0..10 {
            client.request("GET /".into()).end(OK);
        }
        log.client().request("GET /".into()).end(OK);
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.request("GET /".into()).end(OK);
        client.request("GET /".into()).end(Fate::Truncated);
        client.request("GET /".into()).end(Fate::Truncated);
        assert!(log.has_lost());
        let (ok, lost) = (Some(OK), Some(Fate::Truncated));
        assert_eq!(requests(&log), [(10, ok), (1, ok), (1, ok), (1, lost), (1, lost)]);
    }

    #[test]
    fn answers_are_left_out_when_there_are_too_many_and_losses_never() {
        let log = Log::new();
        for _ in 0..EVENTS_KEPT {
            log.client().request("GET /".into()).end(OK);
        }
        for _ in 0..3 {
            log.client().request("GET /".into()).end(OK);
            log.client().request("GET /".into()).end(Fate::TimedOut);
        }
        let events = log.events();
        assert_eq!(events.len(), EVENTS_KEPT + 3 + 1);
        let left_out = What::AnswersLeftOut { count: 3 };
        assert_eq!(events.iter().filter(|event| event.what == left_out).count(), 1);
    }

    #[test]
    fn a_connection_writes_down_its_requests_and_then_itself() {
        let log = Log::new();
        let mut trace = log.client().connection();
        trace.sends(b"GET /work?ms=5 HT");
        trace.sends(b"TP/1.1\r\n\r\n");
        trace.ends(OK);
        trace.sends(b"POST /echo HTTP/1.1\r\n");
        drop(trace);
        let events = log.events();
        let names: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Request { name, fate, .. } => Some((name.as_str(), *fate)),
                _ => None,
            })
            .collect();
        assert_eq!(names, [("GET /work?ms=5 HT", Some(OK)), ("POST /echo", None)]);
        let connections = |event: &&Event| matches!(event.what, What::Connection { .. });
        assert_eq!(events.iter().filter(connections).count(), 1);
        assert!(!log.has_lost());
    }

    /// Who looks every ten milliseconds may look after the end.
    #[test]
    fn nothing_of_the_process_is_told_to_have_ended_after_it() {
        let log = Log::new();
        let at = Instant::now() + Duration::from_millis(5);
        log.listener_closed(at + Duration::from_millis(7));
        log.exited(Exit { ended: Ended::Code(0), at });
        log.readiness_fell(at + Duration::from_millis(9));
        log.listener_closed(at);
        let events = log.events();
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| event.at == at - log.began), "{events:?}");
    }

    #[test]
    fn the_end_is_told_once() {
        let log = Log::new();
        let exit = Exit { ended: Ended::Code(0), at: Instant::now() };
        log.exited(exit);
        log.exited(exit);
        assert_eq!(log.events().len(), 1);
    }
}
