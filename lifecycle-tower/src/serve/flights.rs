//! How many requests one connection has in flight, and whether its task wants to be told
//! of the last one's end.
//!
//! # Invariants
//! 1. One word holds both: bit 0 = told, the rest = twice the number in flight.
//! 2. The last end after the watch began wakes the task; the task makes its waker known before it
//!    begins to watch, and looks at the number that the watch returned.
//! 3. A task that is awake need not be told: it ends its watch first, and does not sleep before
//!    it has begun another.

use crate::sync::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Flights(AtomicUsize);

impl Flights {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn begin(&self) {
        // Ordering: Relaxed, only the number is shared.
        self.0.fetch_add(ONE, Ordering::Relaxed);
    }

    /// Ends one; whether the connection's task must be woken: it was the last.
    #[must_use]
    pub(crate) fn end(&self) -> bool {
        // Ordering: Release, pairs with the Acquire in `watch`: who sees none in flight sees
        // what was noted of them. Acquire, pairs with the Release there: who sees the watch sees
        // whom to wake.
        let before = self.0.fetch_sub(ONE, Ordering::AcqRel);
        debug_assert!(before >= ONE, "an end without a beginning");
        before == ONE | WATCHED
    }

    /// Asks to be told of the last end from here on; the number in flight at this moment.
    #[must_use]
    pub(crate) fn watch(&self) -> usize {
        // Ordering: Acquire and Release, pair with those in `end`.
        self.0.fetch_or(WATCHED, Ordering::AcqRel) / ONE
    }

    /// Asks not to be told, until the next watch.
    pub(crate) fn rest(&self) {
        // Ordering: Relaxed, what ended meanwhile is in the number that the next watch returns.
        self.0.fetch_and(!WATCHED, Ordering::Relaxed);
    }

    /// The number in flight.
    pub(crate) fn count(&self) -> usize {
        // Ordering: Acquire, as in `watch`.
        self.0.load(Ordering::Acquire) / ONE
    }
}

const WATCHED: usize = 1;
const ONE: usize = 2;

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_end_is_told_from_the_watch_on() {
        let flights = Flights::new();
        for _ in 0..3 {
            flights.begin();
        }
        assert!(!flights.end());
        assert_eq!(flights.watch(), 2);
        assert_eq!(flights.watch(), 2, "watching twice is watching once");
        assert!(!flights.end(), "there is another");
        assert!(flights.end());
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn who_is_awake_is_not_told() {
        let flights = Flights::new();
        flights.begin();
        assert_eq!(flights.watch(), 1);
        flights.rest();
        assert!(!flights.end());
        assert_eq!(flights.watch(), 0, "but sees it");
    }
}

#[cfg(all(test, lifecycle_loom))]
mod loom_tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};

    use loom::cell::UnsafeCell;
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// The connection's task, made known once as `ConnState` does: loom knows no `OnceLock`. The
    /// mutex is none of loom's, so it orders nothing; the cell shows whether anything does.
    #[derive(Default)]
    struct Task {
        known: UnsafeCell<()>,
        waker: Mutex<Option<Waker>>,
    }

    impl Task {
        fn set(&self, waker: &Waker) {
            let mut known = self.waker.lock().expect("no panic");
            if known.is_none() {
                self.known.with_mut(|_| ());
                *known = Some(waker.clone());
            }
        }

        fn wake(&self) {
            self.known.with(|_| ());
            let waker = self.waker.lock().expect("no panic").clone();
            waker.expect("known before it watches").wake();
        }
    }

    /// Question: can the connection's task sleep through the end of its last request?
    #[test]
    fn loom_the_last_end_wakes_the_connection() {
        loom::model(|| {
            let flights = Arc::new(Flights::new());
            let task = Arc::new(Task::default());
            flights.begin();
            let stream = thread::spawn({
                let (flights, task) = (flights.clone(), task.clone());
                move || {
                    if flights.end() {
                        task.wake();
                    }
                }
            });
            block_on(std::future::poll_fn(|cx| {
                flights.rest();
                task.set(cx.waker());
                if flights.watch() == 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
            stream.join().expect("no panic");
        });
    }

    /// Question: and of two that end on two threads, while the task has just been woken?
    #[test]
    fn loom_the_last_of_two_ends_wakes_a_task_that_was_awake() {
        loom::model(|| {
            let flights = Arc::new(Flights::new());
            let task = Arc::new(Task::default());
            flights.begin();
            flights.begin();
            let streams = [0, 1].map(|_| {
                let (flights, task) = (flights.clone(), task.clone());
                thread::spawn(move || {
                    if flights.end() {
                        task.wake();
                    }
                })
            });
            block_on(std::future::poll_fn(|cx| {
                flights.rest();
                task.set(cx.waker());
                let in_flight = flights.watch();
                if in_flight == 0 { Poll::Ready(()) } else { Poll::Pending }
            }));
            streams.into_iter().for_each(|stream| stream.join().expect("no panic"));
        });
    }

    /// Question: does who sees none in flight see what was noted of the last one?
    #[test]
    fn loom_none_in_flight_shows_what_was_noted() {
        loom::model(|| {
            let flights = Arc::new(Flights::new());
            let noted = Arc::new(UnsafeCell::new(0));
            flights.begin();
            let stream = thread::spawn({
                let (flights, noted) = (flights.clone(), noted.clone());
                move || {
                    noted.with_mut(|_| ());
                    flights.end()
                }
            });
            if flights.watch() == 0 {
                noted.with(|_| ());
            }
            let _ = stream.join().expect("no panic");
        });
    }

    /// Question: the same for a look without a watch.
    #[test]
    fn loom_a_count_of_none_shows_what_was_noted() {
        loom::model(|| {
            let flights = Arc::new(Flights::new());
            let noted = Arc::new(UnsafeCell::new(0));
            flights.begin();
            let stream = thread::spawn({
                let (flights, noted) = (flights.clone(), noted.clone());
                move || {
                    noted.with_mut(|_| ());
                    flights.end()
                }
            });
            if flights.count() == 0 {
                noted.with(|_| ());
            }
            let _ = stream.join().expect("no panic");
        });
    }
}
