//! The accept loop: takes connections until the drain, backs off when it cannot, and
//! sweeps the accept queue before the listener closes.
//!
//! # Invariants
//! 1. No error makes it spin or end.
//! 2. A connection is counted before its task exists.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Handle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// A connection that was accepted, with its place under the limit.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
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
pub(crate) async fn accept_until_draining(
    listener: &TcpListener,
    limit: Option<&Arc<Semaphore>>,
    handle: &Handle,
    mut taken: impl FnMut(Accepted),
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

async fn one(listener: &TcpListener, limit: Option<&Arc<Semaphore>>) -> io::Result<Accepted> {
    let permit = match limit {
        // Never closed, so it always gives one in the end.
        Some(limit) => Arc::clone(limit).acquire_owned().await.ok(),
        None => None,
    };
    let (stream, peer) = listener.accept().await?;
    Ok(Accepted { stream, peer, permit })
}

/// Takes what is in the accept queue, beyond any limit, and closes the listener; how many
/// were taken. Closing alone would reset every connection in the queue.
///
/// On Linux a filter first makes the listener deaf to new SYNs, so that no connection can
/// arrive between the last look and the close: a client whose SYN falls into that fraction
/// of a millisecond sends it again after a second and is refused, with nothing lost. A
/// handshake that is still on its way across a network at that moment is reset; so is,
/// where the filter is not to be had, what arrives in the last microseconds.
pub(crate) async fn sweep(listener: TcpListener, mut taken: impl FnMut(Accepted)) -> usize {
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(target: "lifecycle", %error, "the accept queue could not be swept");
            return 0;
        }
    };
    let ends = Instant::now() + SWEEP_MOST;
    let deaf = refuse_new(&listener);
    let mut swept = 0;
    loop {
        let left = sweep_once(&listener, ends, &mut taken, &mut swept);
        if left == Left::Nothing || Instant::now() >= ends {
            break;
        }
        // Out of descriptors: those that close now make room.
        sleep(BACKOFF_FIRST).await;
    }
    if deaf {
        // What was let in on another processor while we looked.
        tokio::task::yield_now().await;
        sweep_once(&listener, ends, &mut taken, &mut swept);
    }
    drop(listener);
    swept
}

/// What a pass over the accept queue left in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

/// Accepts until nothing is left. On the std listener, since tokio's `accept` can be
/// pending for other reasons than an empty queue. Bounded by time and by the longest
/// queue that the system allows, since more may arrive meanwhile.
fn sweep_once(
    listener: &StdListener,
    ends: Instant,
    taken: &mut impl FnMut(Accepted),
    swept: &mut usize,
) -> Left {
    // Linux lets one more queue than the backlog says.
    for _ in 0..=backlog_most() {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream =
                    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    taken(Accepted { stream, peer, permit: None });
                    *swept += 1;
                }
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

/// Makes the listener drop every SYN; whether it could.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn refuse_new(listener: &StdListener) -> bool {
    use socket2::SockFilter;
    // Classic BPF on the TCP header: load the flags' byte; with SYN set keep 0 bytes of the
    // segment, else all of it.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x45, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(listener).attach_filter(&filter).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn refuse_new(_listener: &StdListener) -> bool {
    false
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
