//! Listeners of all kinds: a user's own, several on one lifecycle, and such as fail.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use lifecycle::{Builder, Handle, Lifecycle, Phase, Report};
use lifecycle_tower::{Listener, OwnedUnixListener, TlsListener, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::tls::{self, Identity};
use crate::wire::{Wire, limited, settings};

/// A lifecycle that runs, whatever was spawned on it.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    run: JoinHandle<Report>,
}

impl Running {
    pub(crate) async fn start(spawn: impl FnOnce(&mut Lifecycle)) -> Self {
        Self::start_with(settings(), spawn).await
    }

    pub(crate) async fn start_with(settings: Builder, spawn: impl FnOnce(&mut Lifecycle)) -> Self {
        let mut life = settings.build_local().unwrap();
        let handle = life.handle();
        spawn(&mut life);
        let run = tokio::spawn(async move { life.run().await.unwrap() });
        limited(handle.reached(Phase::Running)).await;
        Self { handle, run }
    }

    pub(crate) fn stop(&self) {
        self.handle.shutdown("test");
    }

    pub(crate) async fn report(self) -> Report {
        limited(self.run).await.unwrap()
    }
}

pub(crate) fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

pub(crate) const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Connects and asks, again and again, until connecting is refused: how many were answered,
/// and what was lost. `idle` goes after the first answer: when the channel ends, all clients are
/// at work.
pub(crate) async fn until_refused<T, F>(
    connect: impl Fn() -> F,
    idle: mpsc::Sender<()>,
) -> (usize, Vec<String>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = io::Result<T>>,
{
    let (mut answered, mut lost) = (0, Vec::new());
    let mut idle = Some(idle);
    while let Ok(mut stream) = connect().await {
        let mut answer = String::new();
        let asked = async {
            stream.write_all(ASK.as_bytes()).await?;
            stream.flush().await?;
            stream.read_to_string(&mut answer).await
        };
        match asked.await {
            Ok(_) if answer.ends_with("hello") => answered += 1,
            Ok(_) => lost.push(format!("cut short: {answer:?}")),
            Err(error) => lost.push(error.to_string()),
        }
        drop(idle.take());
    }
    (answered, lost)
}

/// TCP, a Unix socket and TLS beside each other, stopped under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_listeners_on_one_lifecycle_lose_nothing_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unix = OwnedUnixListener::bind(&path).unwrap();
    let identity = Identity::new();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tcp_addr, tls_addr) = (tcp.local_addr().unwrap(), secure.local_addr().unwrap());
    let secure = TlsListener::new(secure, identity.server());
    let running = Running::start(|life| {
        life.spawn("http", serve(tcp, hello()));
        life.spawn("admin", serve(unix, hello()));
        life.spawn("https", serve(secure, hello()));
    })
    .await;

    let (idle, mut all_at_work) = mpsc::channel(1);
    let mut clients: Vec<JoinHandle<(usize, Vec<String>)>> = Vec::new();
    for _ in 0..4 {
        let client = until_refused(move || TcpStream::connect(tcp_addr), idle.clone());
        clients.push(tokio::spawn(client));
        let (path, waits) = (path.clone(), idle.clone());
        clients.push(tokio::spawn(async move {
            until_refused(|| UnixStream::connect(path.clone()), waits).await
        }));
        let (identity, waits) = (identity.clone(), idle.clone());
        clients.push(tokio::spawn(async move {
            until_refused(|| identity.connect(tls_addr, b"http/1.1"), waits).await
        }));
    }
    drop(idle);
    assert_eq!(limited(all_at_work.recv()).await, None);
    // Sleeps: the time under load before the stop.
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop();
    for client in clients {
        let (answered, lost) = limited(client).await.unwrap();
        assert!(answered > 0, "the client was at work");
        assert_eq!(lost, Vec::<String>::new());
    }
    let report = running.report().await;
    assert_eq!(report.exit_code(), 0);
    let report = report.to_string();
    assert_eq!(report.matches("closed; swept").count(), 3, "{report}");
    assert!(report.contains(&format!("listener {tcp_addr} closed")), "{report}");
    assert!(report.contains("http.sock"), "{report}");
}

/// Connections from a channel: nothing of the operating system in it.
struct InMemory(mpsc::Receiver<DuplexStream>);

impl Listener for InMemory {
    type Io = DuplexStream;
    type Addr = &'static str;

    async fn accept(&mut self) -> io::Result<(DuplexStream, &'static str)> {
        match self.0.recv().await {
            Some(connection) => Ok((connection, "client")),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<&'static str> {
        Ok("memory")
    }
}

/// Nothing is waited for, retried or complained of: a sweep that waited would take 250 ms, each of
/// three times.
#[tokio::test]
async fn a_listener_to_which_nobody_can_connect_any_more_holds_nothing() {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let (connect, connections) = mpsc::channel(1);
        let running = Running::start(|life| {
            life.spawn("memory", serve(InMemory(connections), hello()));
        })
        .await;
        drop(connect);
        let began = Instant::now();
        running.stop();
        assert_eq!(running.report().await.exit_code(), 0);
        best = best.min(began.elapsed());
    }
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[tokio::test]
async fn a_users_listener_is_swept_and_its_idle_connections_are_closed() {
    let (connect, connections) = mpsc::channel(64);
    let running = Running::start(|life| {
        life.spawn("memory", serve(InMemory(connections), hello()));
    })
    .await;
    let connect = || async {
        let (client, server) = tokio::io::duplex(1024);
        connect.send(server).await.unwrap();
        Wire::over(client)
    };
    let mut idle = connect().await;
    idle.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.expect("hello").await;
    // All in one turn of the runtime: the accept loop sees the stop first.
    running.stop();
    let mut late = Vec::new();
    for _ in 0..20 {
        let mut wire = connect().await;
        wire.send(ASK).await;
        late.push(wire);
    }
    for wire in late {
        assert!(wire.rest().await.ends_with("hello"));
    }
    assert!(idle.rest().await.ends_with("hello"), "a clean end");
    let report = running.report().await;
    assert_eq!(report.exit_code(), 0);
    assert!(report.to_string().contains("listener \"memory\" closed; swept: 20"), "{report}");
}

/// What a user would write around tokio's listener who knows no more than `accept`.
struct Wrapped(TcpListener);

impl Listener for Wrapped {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn a_plain_wrapper_around_tokios_listener_is_swept_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(Wrapped(listener), hello()));
    })
    .await;
    let mut first = Wire::over(TcpStream::connect(addr).await.unwrap());
    first.send(ASK).await;
    assert!(first.rest().await.ends_with("hello"));
    // Without an await the runtime does not hear of them before the stop.
    let connect = || std::net::TcpStream::connect(addr).unwrap();
    let waiting: Vec<_> = (0..20).map(|_| connect()).collect();
    running.stop();
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let mut wire = Wire::over(TcpStream::from_std(stream).unwrap());
        wire.send(ASK).await;
        assert!(wire.rest().await.ends_with("hello"));
    }
    let report = running.report().await;
    assert!(report.to_string().contains("swept: 20"), "{report}");
}

/// Fails a while, as often as it is asked.
struct Failing {
    inner: TcpListener,
    asked: mpsc::Sender<()>,
    failures: u32,
}

impl Listener for Failing {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.asked.try_send(()).ok();
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::Error::other("not now"));
        }
        self.inner.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::Error::other("nobody knows"))
    }
}

#[tokio::test]
async fn a_listener_that_fails_is_asked_ever_more_rarely_and_recovers() {
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = inner.local_addr().unwrap();
    let (asked, mut times) = mpsc::channel(1000);
    let listener = Failing { inner, asked, failures: 6 };
    let began = Instant::now();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()));
    })
    .await;
    let mut wire = Wire::over(TcpStream::connect(addr).await.unwrap());
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with("hello"));
    // 5, 10, 20, 40, 80 and 160 ms.
    assert!(began.elapsed() >= Duration::from_millis(315), "it waited in between");
    running.stop();
    let report = running.report().await;
    assert!(report.to_string().contains("listener ? closed"), "{report}");
    let mut count = 0;
    while times.recv().await.is_some() {
        count += 1;
    }
    assert!((7..=12).contains(&count), "asked {count} times: six failures, the rest is work");
}

/// The clients are connected beforehand, since the limit holds for their ends too: they are
/// in this process. nextest gives each test a process of its own.
async fn runs_out_and_recovers<L, T>(listener: L, clients: Vec<T>, ask: impl AsyncFn(T) -> String)
where
    L: Listener,
{
    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 3), ..before }).unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()));
    })
    .await;
    let many = clients.len();
    let mut clients = clients.into_iter();
    let silent: Vec<_> = clients.by_ref().take(many / 2).collect();
    let mut asking = Vec::new();
    for client in clients {
        asking.push(Box::pin(ask(client)));
    }
    let served = futures_util::future::join_all(asking);
    let mut served = std::pin::pin!(served);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut served).await;
    assert!(early.is_err(), "there is no descriptor for them");
    drop(silent);
    for answer in limited(served).await {
        assert!(answer.ends_with("hello"), "{answer}");
    }
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
    setrlimit(Resource::Nofile, before).unwrap();
}

#[tokio::test]
async fn more_tls_connections_than_descriptors_recover() {
    let identity = Identity::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(TcpStream::connect(addr).await.unwrap());
    }
    let listener = TlsListener::new(listener, identity.server());
    runs_out_and_recovers(listener, clients, async |stream| {
        let mut wire = Wire::over(identity.over(stream, tls::HTTP1).await.unwrap());
        wire.send(ASK).await;
        wire.rest().await
    })
    .await;
}

#[tokio::test]
async fn more_unix_connections_than_descriptors_recover() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = OwnedUnixListener::bind(&path).unwrap();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(UnixStream::connect(&path).await.unwrap());
    }
    runs_out_and_recovers(listener, clients, async |stream| {
        let mut wire = Wire::over(stream);
        wire.send(ASK).await;
        wire.rest().await
    })
    .await;
}

/// As a parent that passes its sockets on in another way than systemd's.
#[tokio::test]
async fn a_shared_listener_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    tcp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    let addr = tcp.local_addr().unwrap();
    for _ in 0..2 {
        let (tcp, unix) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        let running = Running::start(|life| {
            let tcp = TcpListener::from_std(tcp).unwrap();
            life.spawn("tcp", serve(tcp, hello()).shared_listener());
            let unix = tokio::net::UnixListener::from_std(unix).unwrap();
            life.spawn("unix", serve(unix, hello()).shared_listener());
        })
        .await;
        let mut wire = Wire::over(limited(TcpStream::connect(addr)).await.unwrap());
        wire.send(ASK).await;
        assert!(wire.rest().await.ends_with("hello"));
        let mut wire = Wire::over(limited(UnixStream::connect(&path)).await.unwrap());
        wire.send(ASK).await;
        assert!(wire.rest().await.ends_with("hello"));
        running.stop();
        assert_eq!(running.report().await.exit_code(), 0);
    }
}
