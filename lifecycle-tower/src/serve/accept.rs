//! The accept loop: takes connections until the drain, backs off when it cannot, and
//! sweeps the accept queue before the listener closes.
//!
//! # Invariants
//! 1. No error makes it spin or end.
//! 2. A connection is counted before its task exists.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::listener::Listener;

/// A connection that was accepted, with its place under the limit.
pub(crate) struct Accepted<L: Listener> {
    pub(crate) io: L::Io,
    pub(crate) peer: L::Addr,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// What an error of `accept` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// It was that connection's own: take the next.
    Next,
    /// The process or the system has run out of something: wait.
    BackOff,
}

/// Accepts until the drain begins, and hands each connection to `taken`.
pub(crate) async fn accept_until_draining<L: Listener>(
    listener: &mut L,
    limit: Option<&Arc<Semaphore>>,
    handle: &Handle,
    mut taken: impl FnMut(Accepted<L>),
) {
    let mut draining = std::pin::pin!(handle.draining());
    let mut backoff = Backoff::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => return,
            accepted = one(listener, limit) => accepted,
        };
        match accepted {
            Ok(accepted) => {
                backoff.over();
                taken(accepted);
            }
            Err(error) if remedy(&error) == Remedy::Next && backoff.passes_over() => {
                tracing::debug!(target: "lifecycle", %error, "a connection ended before its accept");
            }
            Err(error) => {
                let delay = backoff.next(&error);
                tokio::select! {
                    biased;
                    () = &mut draining => return,
                    () = sleep(delay) => {}
                }
            }
        }
    }
}

async fn one<L: Listener>(
    listener: &mut L,
    limit: Option<&Arc<Semaphore>>,
) -> io::Result<Accepted<L>> {
    let permit = match limit {
        // Never closed, so it always gives one in the end.
        Some(limit) => Arc::clone(limit).acquire_owned().await.ok(),
        None => None,
    };
    let (io, peer) = listener.accept().await?;
    Ok(Accepted { io, peer, permit })
}

/// Takes what is in the accept queue, beyond any limit, and closes the listener; how many
/// were taken. Closing alone would reset every connection in the queue. One that others
/// share goes on to let in what comes, for them.
pub(crate) async fn sweep<L: Listener>(
    mut listener: L,
    is_shared: bool,
    mut taken: impl FnMut(Accepted<L>),
) -> usize {
    let ends = Instant::now() + SWEEP_MOST;
    if !is_shared {
        listener.refuse_new();
    }
    let mut swept = 0;
    loop {
        let left = sweep_once(&mut listener, ends, &mut taken, &mut swept);
        if left == Left::Nothing || Instant::now() >= ends {
            break;
        }
        // Out of descriptors: those that close now make room.
        sleep(BACKOFF_FIRST).await;
    }
    // What was let in on another processor while we looked, and what the runtime, which turns
    // once in between, has only now told a listener that hangs on it.
    tokio::task::yield_now().await;
    sweep_once(&mut listener, ends, &mut taken, &mut swept);
    drop(listener);
    swept
}

/// What a pass over the accept queue left in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

/// Accepts until nothing is left. Bounded by time and by the longest queue that the system
/// allows, since more may arrive meanwhile.
fn sweep_once<L: Listener>(
    listener: &mut L,
    ends: Instant,
    taken: &mut impl FnMut(Accepted<L>),
    swept: &mut usize,
) -> Left {
    // Linux lets one more queue than the backlog says.
    for _ in 0..=backlog_most() {
        match listener.try_accept() {
            Ok((io, peer)) => {
                taken(Accepted { io, peer, permit: None });
                *swept += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
            Err(error) if remedy(&error) == Remedy::Next => {}
            Err(error) => {
                tracing::warn!(target: "lifecycle", %error, "the accept queue cannot be swept");
                return Left::Something;
            }
        }
        if Instant::now() >= ends {
            return Left::Something;
        }
    }
    Left::Nothing
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn backlog_most() -> usize {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(BACKLOG_MOST)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn backlog_most() -> usize {
    BACKLOG_MOST
}

fn remedy(error: &io::Error) -> Remedy {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::Interrupted
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::TimedOut => Remedy::Next,
        // Out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM), and whatever else:
        // waiting is right for the former and harmless for the latter.
        _ => Remedy::BackOff,
    }
}

/// Waits longer with each failure in a row, and says so once a second at most.
#[derive(Debug, Default)]
struct Backoff {
    delay: Option<Duration>,
    said: Option<Instant>,
    passed_over: u32,
}

impl Backoff {
    /// A connection was accepted.
    fn over(&mut self) {
        self.delay = None;
        self.passed_over = 0;
    }

    /// Whether one more failed connection is passed over without a wait: should every one
    /// fail, it is not the connections.
    fn passes_over(&mut self) -> bool {
        self.passed_over += 1;
        self.passed_over <= PASSED_OVER_MOST
    }

    fn next(&mut self, error: &io::Error) -> Duration {
        let delay = self.delay.map_or(BACKOFF_FIRST, |delay| (delay * 2).min(BACKOFF_MOST));
        self.delay = Some(delay);
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= BACKOFF_MOST) {
            self.said = Some(now);
            tracing::warn!(
                target: "lifecycle",
                %error,
                delay_ms = delay.as_millis(),
                "cannot accept connections"
            );
        }
        delay
    }
}

const SWEEP_MOST: Duration = Duration::from_millis(250);
/// Linux' own default for the longest accept queue.
const BACKLOG_MOST: usize = 4096;
const PASSED_OVER_MOST: u32 = 16;
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MOST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn running_out_of_descriptors_backs_off_up_to_a_second() {
        let emfile = io::Error::from_raw_os_error(24);
        assert_eq!(remedy(&emfile), Remedy::BackOff);
        let mut backoff = Backoff::default();
        assert!((0..16).all(|_| backoff.passes_over()) && !backoff.passes_over());
        let delays: Vec<_> = (0..10).map(|_| backoff.next(&emfile).as_millis()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }

    #[test]
    fn a_connection_that_failed_by_itself_is_passed_over() {
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert_eq!(remedy(&io::Error::from(kind)), Remedy::Next);
        }
        for code in [23, 105, 12, 9, 22] {
            assert_eq!(remedy(&io::Error::from_raw_os_error(code)), Remedy::BackOff, "{code}");
        }
    }
}
