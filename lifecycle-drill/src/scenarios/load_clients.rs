//! The clients of the load scenarios: closed loops that count each request once.
//!
//! All of them end when a connect is refused after the lame duck, as the service is gone then;
//! and at a deadline.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep},
};

use super::load_account::{Account, Connection, When};
use crate::client::{Alpn, Fate, H2c, Peer, Wire};

/// What one client does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) peer: Peer,
    pub(super) path: String,
    pub(super) manner: Manner,
    pub(super) limit: Duration,
    /// When the signal was sent, from just before it on.
    pub(super) cause: watch::Receiver<Option<Instant>>,
    /// How long the listener must stay open after that.
    pub(super) lame_duck: Duration,
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
pub(super) fn start(plan: &Plan, count: u32) -> JoinSet<Account> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let plan = Plan { peer: plan.peer.clone().one_of_many(), ..plan.clone() };
        clients.spawn(async move {
            let mut account = Account::default();
            match plan.manner {
                Manner::KeepAlive(think) => keep_alive(&plan, think, &mut account).await,
                Manner::OneEach => one_each(&plan, &mut account).await,
                Manner::H2c(streams) => h2c(&plan, streams, &mut account).await,
            }
            account
        });
    }
    clients
}

/// Waits for all clients and adds up what they saw.
pub(super) async fn finish(mut clients: JoinSet<Account>) -> Account {
    let mut sum = Account::default();
    while let Some(joined) = clients.join_next().await {
        match joined {
            Ok(account) => sum.merge(&account),
            // A client that panicked has lost its account: never to be taken for a success.
            Err(_) => sum.add(Fate::Garbled, When::Later, Connection::Made),
        }
    }
    sum
}

async fn keep_alive(plan: &Plan, think: Duration, account: &mut Account) {
    while let Some(mut wire) = connect(plan, account).await {
        while plan.goes_on() {
            let fate = Wire::fate(&wire.get(&plan.path).await);
            account.add(fate, plan.now(), Connection::Made);
            if !matches!(fate, Fate::Answered { close: false, .. }) {
                break;
            }
            if !think.is_zero() {
                sleep(think).await;
            }
        }
    }
}

async fn one_each(plan: &Plan, account: &mut Account) {
    while let Some(mut wire) = connect(plan, account).await {
        let fate = Wire::fate(&wire.get(&plan.path).await);
        account.add(fate, plan.now(), Connection::Made);
    }
}

async fn h2c(plan: &Plan, streams: u32, account: &mut Account) {
    let mut retries = Retries::default();
    while plan.goes_on() {
        let client = match H2c::connect(&plan.peer, plan.limit).await {
            Ok(client) => client,
            Err(error) if retries.again(error.fate, plan, account).await => continue,
            Err(_) => return,
        };
        retries = Retries::default();
        let talks = (0..streams).map(|_| one_stream_after_another(plan, &client));
        for talk in futures_util::future::join_all(talks).await {
            account.merge(&talk);
        }
    }
}

async fn one_stream_after_another(plan: &Plan, client: &H2c) -> Account {
    let mut account = Account::default();
    while plan.goes_on() && !client.told_to_go() {
        let fate = client.get(&plan.path).await.unwrap_or_else(|error| error.fate);
        account.add(fate, plan.now(), Connection::Made);
        if !fate.is_answered() {
            break;
        }
    }
    account
}

/// A new connection; `None` when the service is gone or the time is over.
async fn connect(plan: &Plan, account: &mut Account) -> Option<Wire> {
    let mut retries = Retries::default();
    while plan.goes_on() {
        match Wire::open(&plan.peer, Alpn::Http1, plan.limit).await {
            Ok(wire) => return Some(wire),
            Err(error) if retries.again(error.fate, plan, account).await => {}
            Err(_) => return None,
        }
    }
    None
}

/// The pauses of a client whose connects fail.
#[derive(Debug, Default)]
struct Retries {
    refused: u32,
}

impl Retries {
    /// Counts a failed connect. Whether to try again, after a pause.
    async fn again(&mut self, fate: Fate, plan: &Plan, account: &mut Account) -> bool {
        let when = plan.now();
        account.add(fate, when, Connection::Failed);
        match (fate, when) {
            (Fate::Refused, When::Later) | (Fate::NoDescriptor, _) => return false,
            (Fate::Refused, When::BeforeSignal | When::LameDuck) => {
                // Refused too early, which is judged; and a log is not to be filled with it.
                sleep((PAUSE * 2_u32.saturating_pow(self.refused)).min(PAUSE_MAX)).await;
                self.refused = self.refused.saturating_add(1);
            }
            // Ports come back as the kernel lets go of old connections: time is all it takes.
            (Fate::NoLocalPort, _) => sleep(PAUSE).await,
            _ => yield_now().await,
        }
        true
    }
}

impl Plan {
    fn goes_on(&self) -> bool {
        Instant::now() < self.deadline
    }

    fn now(&self) -> When {
        match *self.cause.borrow() {
            None => When::BeforeSignal,
            Some(cause) if cause.elapsed() < self.lame_duck => When::LameDuck,
            Some(_) => When::Later,
        }
    }
}

const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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

    /// Long enough for a first look in it, whatever the machine does.
    const LAME_DUCK: Duration = Duration::from_secs(2);

    fn plan(address: SocketAddr, manner: Manner) -> (watch::Sender<Option<Instant>>, Plan) {
        let (tell, cause) = watch::channel(None);
        let limit = Duration::from_secs(20);
        let deadline = Instant::now() + limit;
        let lame_duck = LAME_DUCK;
        let (peer, path) = (address.into(), "/".into());
        (tell, Plan { peer, path, manner, limit, cause, lame_duck, deadline })
    }

    #[tokio::test]
    async fn a_lost_request_is_counted_and_a_refused_connect_ends_the_client() {
        for manner in [Manner::KeepAlive(Duration::ZERO), Manner::OneEach] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (tell, plan) = plan(listener.local_addr().unwrap(), manner);
            let long_ago = Instant::now().checked_sub(plan.lame_duck);
            assert!(long_ago.is_some() && tell.send(long_ago).is_ok());
            let clients = start(&plan, 1);
            server(listener, 3).await;
            let ledger = finish(clients).await.all;
            assert_eq!((ledger.total(), ledger.answered(), ledger.lost()), (5, 3, 1), "{ledger}");
            assert_eq!(ledger.count(|fate| fate == Fate::Refused), 1, "{ledger}");
        }
    }

    /// Answers one request a connection without a word of its end, and closes it a moment later.
    async fn hasty_server(listener: TcpListener, count: u32) {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut chunk = [0; 1024];
            assert!(stream.read(&mut chunk).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            // Sleeps: the moment after which it closes.
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_in_a_pause_costs_no_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let manner = Manner::KeepAlive(Duration::from_secs(3));
        let (tell, plan) = plan(listener.local_addr().unwrap(), manner);
        assert!(tell.send(Instant::now().checked_sub(plan.lame_duck)).is_ok());
        let clients = start(&plan, 1);
        hasty_server(listener, 2).await;
        let ledger = finish(clients).await.all;
        assert_eq!((ledger.answered(), ledger.lost()), (2, 0), "{ledger}");
        assert_eq!(ledger.count(|fate| fate == Fate::NotSent), 2, "{ledger}");
    }

    #[tokio::test]
    async fn without_descriptors_a_client_ends_at_once() {
        let (_tell, plan) = plan(([127, 0, 0, 1], 1).into(), Manner::OneEach);
        let mut account = Account::default();
        let again = Retries::default().again(Fate::NoDescriptor, &plan, &mut account).await;
        assert!(!again && account.all.total() == 1);
    }

    #[tokio::test]
    async fn refused_in_the_lame_duck_a_client_goes_on_until_its_end() {
        let manners = [Manner::KeepAlive(Duration::ZERO), Manner::OneEach, Manner::H2c(2)];
        let all = manners.map(async |manner| {
            let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let (tell, plan) = plan(address, manner);
            let cause = Instant::now();
            assert!(tell.send(Some(cause)).is_ok());
            let account = finish(start(&plan, 1)).await;
            assert!(cause.elapsed() >= plan.lame_duck, "{:?}", cause.elapsed());
            let refused = account.all.count(|fate| fate == Fate::Refused);
            assert!(refused == account.all.total() && refused >= 2, "{}", account.all);
        });
        futures_util::future::join_all(all).await;
    }
}
