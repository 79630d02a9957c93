//! Watches the process from its signal on, for the log alone: no verdict comes from here.
//!
//! It asks the readiness probe as a kubelet would, and the kernel whether the port listens
//! (no connection is made for that).

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    client::{Peer, ask},
    events::Log,
    process::Exit,
};

/// Two tasks that end by themselves when they have seen what they look for. Dropped, they end.
#[derive(Debug)]
pub(crate) struct Watch {
    _tasks: JoinSet<()>,
    port: u16,
    /// Whether the kernel told, at first, that the port listens. If not, we are not told, and say
    /// nothing.
    listened: bool,
}

impl Watch {
    /// Begins to watch; to be called before the signal is sent, since the process may be gone a
    /// moment later. Must be called inside a tokio runtime.
    pub(crate) fn start(log: &Log, main: SocketAddr, readiness: Option<(Peer, String)>) -> Self {
        let mut tasks = JoinSet::new();
        let port = main.port();
        let listened = listens(port);
        if listened {
            tasks.spawn(listener(log.clone(), port));
        }
        if let Some((peer, path)) = readiness {
            tasks.spawn(ready(log.clone(), peer, path));
        }
        Self { _tasks: tasks, port, listened }
    }

    /// The process is gone. Its listener may have closed since the last look, or with it.
    pub(crate) fn ended(&self, log: &Log, exit: Exit) {
        if self.listened && !listens(self.port) {
            log.listener_closed(exit.at);
        }
    }
}

async fn listener(log: Log, port: u16) {
    while listens(port) {
        sleep(LISTENER_POLL).await;
    }
    log.listener_closed(Instant::now());
}

async fn ready(log: Log, peer: Peer, path: String) {
    let is_ready = async || ask(&peer, &path, PROBE_LIMIT).await.is_probe_success();
    sleep(SIGNAL_SEEN).await;
    while is_ready().await {
        sleep(PROBE_POLL).await;
    }
    log.readiness_fell(Instant::now());
}

/// Whether any socket listens on the port. Linux names those that listen first, so that the
/// thousands of others in a load need not be read.
fn listens(port: u16) -> bool {
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|path| {
        let Ok(file) = File::open(path) else { return false };
        let lines = BufReader::new(file).lines().map_while(Result::ok).skip(1);
        lines.map_while(|line| listening_at(&line)).any(|local| local.ends_with(&port))
    })
}

/// The local address of a line of `/proc/net/tcp`, if it is of a socket that listens.
fn listening_at(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next()?;
    (fields.nth(1)? == LISTENING).then(|| local.to_owned())
}

const LISTENER_POLL: Duration = Duration::from_millis(10);
const PROBE_POLL: Duration = Duration::from_millis(20);
/// For the signal to be handled before we ask. A thread that a probe wakes up can take a signal
/// from the main thread, and Python's main thread then sleeps on: seen in one stop of three.
const SIGNAL_SEEN: Duration = Duration::from_millis(50);
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// The kernel's number of the state.
const LISTENING: &str = "0A";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn knows_a_port_that_listens_from_one_that_no_longer_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port));
        drop(listener);
        assert!(!listens(port));
    }

    #[test]
    fn reads_the_kernels_lines() {
        let line = "   0: 0100007F:2EE0 00000000:0000 0A 00000000:00000000 00:00000000 00000000";
        assert_eq!(listening_at(line).as_deref(), Some("0100007F:2EE0"));
        assert_eq!(listening_at(&line.replace(" 0A ", " 06 ")), None);
        assert_eq!(listening_at(""), None);
    }
}
