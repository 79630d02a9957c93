//! The way to the service manager: datagrams to `NOTIFY_SOCKET`, never waited for.
//!
//! # Invariants
//! 1. Sending does not block: what does not go now goes with the next message or is lost.
//! 2. What is lost is only what is said again anyway; trouble is one WARN.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::script::Line;

#[derive(Debug)]
pub(super) struct Link {
    name: String,
    open: Option<(UnixDatagram, SocketAddr)>,
    /// What the manager's full queue has kept from it.
    kept: Vec<Line>,
    /// The first, until it is said.
    trouble: Option<io::Error>,
    warned: bool,
}

impl Link {
    pub(super) fn new(name: &str) -> Self {
        let (open, trouble) = match open(name) {
            Ok(open) => (Some(open), None),
            Err(error) => (None, Some(error)),
        };
        Self { name: name.to_owned(), open, kept: Vec::new(), trouble, warned: false }
    }

    /// Sends the lines; trouble is logged once, when somebody listens.
    pub(super) fn send(&mut self, lines: &[Line], say: bool) {
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(lines);
        // One message, but for the end of a reload, which does not go with its beginning: for
        // READY=1 systemd looks at the state that RELOADING=1 has left.
        for message in all.split_inclusive(|line| *line == Line::Reloading) {
            if self.kept.is_empty() {
                self.send_one(message);
            } else {
                self.keep(message);
            }
        }
        if let Some(error) = self.trouble.take_if(|_| say && !self.warned) {
            self.warned = true;
            crate::telemetry::manager_unreachable(&self.name, &error);
        }
    }

    /// When to try again what was kept.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        (!self.kept.is_empty()).then_some(RETRY)
    }

    fn send_one(&mut self, message: &[Line]) {
        match self.try_send(message) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep(message),
            // The next message is tried all the same: silence is what a watchdog punishes.
            Err(error) => {
                self.trouble.get_or_insert(error);
            }
        }
    }

    fn keep(&mut self, message: &[Line]) {
        let lasting = |line: &&Line| !matches!(line, Line::Status(_) | Line::Watchdog);
        self.kept.extend(message.iter().filter(lasting).cloned());
        self.kept.truncate(KEPT_MOST);
    }

    fn try_send(&self, lines: &[Line]) -> io::Result<()> {
        let Some((socket, to)) = &self.open else { return Ok(()) };
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.to_string());
            if *line == Line::Reloading {
                // It tells this reload from an earlier one, so it is taken at the sending.
                text.push_str(&format!("\nMONOTONIC_USEC={}", monotonic_us()));
            }
            text.push('\n');
        }
        socket.send_to_addr(text.as_bytes(), to).map(drop)
    }
}

/// A path, or a name in the abstract namespace behind an `@`.
fn open(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => {
            let reason = "neither a path nor an abstract name";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanos / 1_000
}

/// How soon a full queue is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// More than one life has to say; only reloads without end are more.
const KEPT_MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn received(at: &UnixDatagram) -> String {
        let mut text = [0; 4096];
        let len = at.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    /// A socket of the abstract namespace that nobody else has.
    fn manager() -> (UnixDatagram, String) {
        let name = format!("lifecycle-{}-{:?}", std::process::id(), std::thread::current().id());
        let addr = SocketAddr::from_abstract_name(&name).expect("an address");
        let socket = UnixDatagram::bind_addr(&addr).expect("ours alone");
        socket.set_nonblocking(true).expect("a socket");
        (socket, format!("@{name}"))
    }

    #[test]
    fn reaches_an_abstract_socket_and_tells_the_ends_of_a_reload_apart() {
        let (manager, name) = manager();
        let mut link = Link::new(&name);
        link.send(&[Line::Ready, Line::Watchdog], true);
        assert_eq!(received(&manager), "READY=1\nWATCHDOG=1\n");
        link.send(&[Line::Reloading], true);
        let text = received(&manager);
        let clock = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&text);
        assert!(clock.trim().parse::<u64>().expect("a number") <= monotonic_us());
        link.send(&[Line::Reloading, Line::Ready, Line::Watchdog], true);
        let text = received(&manager);
        assert!(text.starts_with("RELOADING=1\n") && !text.contains("READY"), "{text}");
        assert_eq!(received(&manager), "READY=1\nWATCHDOG=1\n");
    }

    #[test]
    fn a_full_queue_keeps_what_counts_for_later_and_never_blocks() {
        let (manager, name) = manager();
        let mut link = Link::new(&name);
        let mut sent = 0;
        while link.retry_after().is_none() {
            link.send(&[Line::Watchdog, Line::Stopping], true);
            sent += 1;
            assert!(sent < 100_000, "a queue has a bound");
        }
        link.send(&[Line::Status("draining".to_owned())], true);
        for _ in 1..sent {
            assert_eq!(received(&manager), "WATCHDOG=1\nSTOPPING=1\n");
        }
        link.send(&[], true);
        assert_eq!(received(&manager), "STOPPING=1\n", "a ping and a status are renewed anyway");
        assert_eq!(link.retry_after(), None);
        assert!(!link.warned, "it is only slow");
    }

    #[test]
    fn a_manager_that_cannot_be_reached_is_said_once() {
        let long = format!("/{}", "x".repeat(200));
        for name in ["/nowhere/at/all", "relative", "vsock:2:1234", "@", &long] {
            let mut link = Link::new(name);
            link.send(&[Line::Ready], false);
            assert!(!link.warned, "{name}: nobody listens yet");
            link.send(&[], true);
            assert!(link.warned, "{name}");
            link.send(&[Line::Stopping], true);
            assert_eq!(link.retry_after(), None, "{name}: nothing to wait for");
        }
    }
}
