//! The clients of the load scenarios: closed loops that count each request once.
//!
//! All of them end when a connect is refused, as the service is gone then; and at a deadline.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    client::{Alpn, Fate, H2c, Peer, Wire},
    ledger::Ledger,
};

/// What one client does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) peer: Peer,
    pub(super) path: String,
    pub(super) manner: Manner,
    pub(super) limit: Duration,
    /// After this no new request is begun.
    pub(super) deadline: Instant,
}

/// How a client uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One HTTP/1 connection for all requests until the server says close; so long between two.
    KeepAlive(Duration),
    /// A new HTTP/1 connection for each request.
    OneEach,
    /// One HTTP/2 connection until GOAWAY, with so many streams at a time.
    H2c(u32),
}

/// Starts `count` clients.
pub(super) fn start(plan: &Plan, count: u32) -> JoinSet<Ledger> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let plan = Plan { peer: plan.peer.clone().one_of_many(), ..plan.clone() };
        clients.spawn(async move {
            let mut ledger = Ledger::new();
            match plan.manner {
                Manner::KeepAlive(think) => keep_alive(&plan, think, &mut ledger).await,
                Manner::OneEach => one_each(&plan, &mut ledger).await,
                Manner::H2c(streams) => h2c(&plan, streams, &mut ledger).await,
            }
            ledger
        });
    }
    clients
}

/// Waits for all clients and adds up what they saw.
pub(super) async fn finish(mut clients: JoinSet<Ledger>) -> Ledger {
    let mut sum = Ledger::new();
    while let Some(joined) = clients.join_next().await {
        match joined {
            Ok(ledger) => sum.merge(&ledger),
            // A client that panicked has lost its account: never to be taken for a success.
            Err(_) => sum.add(Fate::Garbled),
        }
    }
    sum
}

async fn keep_alive(plan: &Plan, think: Duration, ledger: &mut Ledger) {
    while let Some(mut wire) = connect(plan, ledger).await {
        while plan.goes_on() {
            let fate = Wire::fate(&wire.get(&plan.path).await);
            ledger.add(fate);
            if !matches!(fate, Fate::Answered { close: false, .. }) {
                break;
            }
            if !think.is_zero() {
                sleep(think).await;
            }
        }
    }
}

async fn one_each(plan: &Plan, ledger: &mut Ledger) {
    while let Some(mut wire) = connect(plan, ledger).await {
        ledger.add(Wire::fate(&wire.get(&plan.path).await));
    }
}

async fn h2c(plan: &Plan, streams: u32, ledger: &mut Ledger) {
    while plan.goes_on() {
        let client = match H2c::connect(&plan.peer, plan.limit).await {
            Ok(client) => client,
            Err(error) if goes_elsewhere(error.fate, ledger).await => continue,
            Err(_) => return,
        };
        let talks = (0..streams).map(|_| one_stream_after_another(plan, &client));
        for talk in futures_util::future::join_all(talks).await {
            ledger.merge(&talk);
        }
    }
}

async fn one_stream_after_another(plan: &Plan, client: &H2c) -> Ledger {
    let mut ledger = Ledger::new();
    while plan.goes_on() && !client.told_to_go() {
        let fate = client.get(&plan.path).await.unwrap_or_else(|error| error.fate);
        ledger.add(fate);
        if !fate.is_answered() {
            break;
        }
    }
    ledger
}

/// A new connection; `None` when the service is gone or the time is over.
async fn connect(plan: &Plan, ledger: &mut Ledger) -> Option<Wire> {
    while plan.goes_on() {
        match Wire::open(&plan.peer, Alpn::Http1, plan.limit).await {
            Ok(wire) => return Some(wire),
            Err(error) if goes_elsewhere(error.fate, ledger).await => {}
            Err(_) => return None,
        }
    }
    None
}

/// Counts a failed connect. Whether to try again.
async fn goes_elsewhere(fate: Fate, ledger: &mut Ledger) -> bool {
    ledger.add(fate);
    if fate == Fate::NoLocalPort {
        // Ports come back as the kernel lets go of old connections: time is all it takes.
        sleep(PORT_PAUSE).await;
    }
    fate != Fate::Refused
}

impl Plan {
    fn goes_on(&self) -> bool {
        Instant::now() < self.deadline
    }
}

const PORT_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request a connection (with close), `count` in all, and then is gone. The
    /// connection after that is taken, read from, and dropped without an answer.
    async fn server(listener: TcpListener, count: u32) {
        for number in 0..=count {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut chunk = [0; 1024];
            assert!(stream.read(&mut chunk).await.unwrap() > 0);
            if number < count {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        }
    }

    async fn ledger_of(manner: Manner) -> Ledger {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_secs(5);
        let plan = Plan {
            peer: address.into(),
            path: "/".into(),
            manner,
            limit,
            deadline: Instant::now() + limit,
        };
        let clients = start(&plan, 1);
        server(listener, 3).await;
        finish(clients).await
    }

    #[tokio::test]
    async fn a_lost_request_is_counted_and_a_refused_connect_ends_the_client() {
        for manner in [Manner::KeepAlive(Duration::ZERO), Manner::OneEach] {
            let ledger = ledger_of(manner).await;
            assert_eq!((ledger.total(), ledger.answered(), ledger.lost()), (5, 3, 1), "{ledger}");
            assert_eq!(ledger.count(|fate| fate == Fate::Refused), 1, "{ledger}");
        }
    }
}
