//! TLS: the handshake is nobody's affair but its own connection's, HTTP/1 and HTTP/2 by ALPN,
//! ends with `close_notify`, and nothing that the session still holds is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use axum::routing::get;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lifecycle::Builder;
use lifecycle_tower::rustls::crypto::ring;
use lifecycle_tower::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use lifecycle_tower::rustls::{ClientConfig, RootCertStore, ServerConfig};
use lifecycle_tower::{Listener, TlsListener, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::listeners::{ASK, Running, hello};
use crate::wire::{Wire, limited, settings};

pub(crate) const HTTP1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A certificate made for one test, and clients that trust no other.
#[derive(Clone)]
pub(crate) struct Identity {
    cert: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Self { cert: made.cert.into(), key: Arc::new(key) }
    }

    /// Without ALPN protocols: the listener adds its own.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.cert.clone()], self.key.clone_key());
        Arc::new(config.unwrap())
    }

    /// The handshake over a connection of one's own; without ALPN if `protocol` is empty.
    pub(crate) async fn over(
        &self,
        stream: TcpStream,
        protocol: &[u8],
    ) -> io::Result<Box<TlsStream<TcpStream>>> {
        self.wrap(stream, protocol).await
    }

    async fn wrap<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: T,
        protocol: &[u8],
    ) -> io::Result<Box<TlsStream<T>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !protocol.is_empty() {
            config.alpn_protocols = vec![protocol.to_vec()];
        }
        let name = ServerName::try_from("localhost").unwrap();
        // Boxed, as it holds the whole session.
        Box::pin(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.map(Box::new)
    }

    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        protocol: &[u8],
    ) -> io::Result<Box<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        self.over(stream, protocol).await
    }
}

pub(crate) struct Secure {
    identity: Identity,
    addr: SocketAddr,
    pub(crate) running: Running,
}

impl Secure {
    pub(crate) async fn start(app: Router) -> Self {
        Self::start_with(settings(), app).await
    }

    /// With a grace whose hard stop, which ends all that is idle, is beyond any bound here.
    async fn patient(app: Router) -> Self {
        Self::start_with(settings().grace_period(Duration::from_secs(12)), app).await
    }

    async fn start_with(settings: Builder, app: Router) -> Self {
        let (identity, listener) =
            (Identity::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        let listener = TlsListener::new(listener, identity.server());
        let running = Running::start_with(settings, |life| {
            life.spawn("https", serve(listener, app));
        })
        .await;
        Self { identity, addr, running }
    }

    pub(crate) async fn wire(&self, protocol: &[u8]) -> Wire<Box<TlsStream<TcpStream>>> {
        Wire::over(limited(self.identity.connect(self.addr, protocol)).await.unwrap())
    }

    /// Stops, and how long that took; nothing may have been cut.
    async fn stopped(self) -> Duration {
        let began = Instant::now();
        self.running.stop();
        let report = self.running.report().await;
        let took = began.elapsed();
        assert_eq!(report.exit_code(), 0, "{report}");
        assert!(!report.to_string().contains("cut"), "{report}");
        took
    }
}

#[tokio::test]
async fn the_protocol_is_that_of_alpn_or_of_the_first_bytes() {
    let server = Secure::start(hello()).await;
    for protocol in [HTTP1, b""] {
        let mut wire = server.wire(protocol).await;
        wire.send(ASK).await;
        assert!(wire.rest().await.ends_with("hello"));
    }
    for protocol in [H2, b""] {
        let stream = server.identity.connect(server.addr, protocol).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
        assert_eq!(chosen, protocol);
        let io = TokioIo::new(stream);
        let (mut sender, conn) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let conn = tokio::spawn(conn);
        let answer = limited(sender.send_request(crate::wire::get("/"))).await.unwrap();
        assert_eq!(
            (answer.status(), answer.version()),
            (http::StatusCode::OK, http::Version::HTTP_2)
        );
        drop((answer, sender));
        limited(conn).await.unwrap().unwrap();
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_configuration_with_alpn_of_its_own_is_left_as_it_is() {
    let (identity, listener) = (Identity::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let mut config = identity.server();
    Arc::make_mut(&mut config).alpn_protocols = vec![HTTP1.to_vec()];
    let listener = TlsListener::new(listener, config);
    let running = Running::start(|life| {
        life.spawn("https", serve(listener, hello()));
    })
    .await;
    limited(identity.connect(addr, H2)).await.expect_err("no protocol in common");
    let mut wire = Wire::over(identity.connect(addr, HTTP1).await.unwrap());
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with("hello"));
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
}

/// `rest` fails where the end comes without `close_notify`.
#[tokio::test]
async fn every_orderly_end_is_a_close_notify() {
    let server = Secure::start(hello()).await;
    let mut told = server.wire(HTTP1).await;
    told.send(ASK).await;
    told.expect("hello").await;
    assert!(told.rest().await.ends_with("hello"), "after `connection: close`");
    let mut idle = server.wire(HTTP1).await;
    idle.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.expect("hello").await;
    let silent = server.wire(HTTP1).await;
    let unknown = server.wire(b"").await;
    let mut greeted = server.wire(H2).await;
    greeted.send(PREFACE).await;
    server.running.stop();
    idle.rest().await;
    assert_eq!(silent.rest().await, "");
    assert_eq!(unknown.rest().await, "");
    let (mut greeted, mut frames) = (greeted.stream, Vec::new());
    limited(greeted.read_to_end(&mut frames)).await.expect("a proper end of HTTP/2 too");
    assert_eq!(server.running.report().await.exit_code(), 0);
}

/// What the drain's deadline cuts must not look whole: no `close_notify` after half an answer.
#[tokio::test]
async fn what_is_cut_does_not_end_in_order() {
    let app = Router::new().route(
        "/",
        get(|| async {
            use futures_util::StreamExt;
            let first = futures_util::stream::iter([Ok::<_, io::Error>("half an answer")]);
            axum::body::Body::from_stream(first.chain(futures_util::stream::pending()))
        }),
    );
    let server = Secure::start(app).await;
    let mut wire = server.wire(HTTP1).await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    wire.expect("half an answer").await;
    server.running.stop();
    let mut rest = Vec::new();
    let error = limited(wire.stream.read_to_end(&mut rest)).await.expect_err("torn");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(server.running.report().await.exit_code(), 3);
}

/// A client that has agreed on HTTP/2 and then waits for the server's SETTINGS gets them, and
/// does not hold the drain.
#[tokio::test]
async fn a_silent_http2_client_is_greeted_and_let_go() {
    let server = Secure::patient(hello()).await;
    let mut stream = server.identity.connect(server.addr, H2).await.unwrap();
    let mut header = [0; 9];
    limited(stream.read_exact(&mut header)).await.unwrap();
    assert_eq!(header[3], 4, "SETTINGS come first");
    let took = server.stopped().await;
    // Longer than its second and shorter than the drain, on a busy machine too.
    assert!(took < Duration::from_secs(5), "held for {took:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_costs_its_own_connection_only() {
    let server = Secure::start(hello()).await;
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(ASK.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(limited(plain.read_to_end(&mut answer)).await);
    assert!(!answer.starts_with(b"HTTP"), "no request without TLS");
    let stranger = Identity::new();
    limited(stranger.connect(server.addr, HTTP1)).await.expect_err("not the certificate it trusts");
    let mut wire = server.wire(HTTP1).await;
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with("hello"));
    let took = server.stopped().await;
    assert!(took < Duration::from_millis(900), "nothing was left: {took:?}");
}

#[tokio::test]
async fn a_handshake_is_bounded_and_its_place_goes_to_the_next() {
    let (identity, listener) = (Identity::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let listener = TlsListener::new(listener, identity.server());
    let limit = Duration::from_millis(300);
    let running = Running::start(|life| {
        let server = serve(listener, hello()).connection_limit(1).handshake_timeout(limit);
        life.spawn("https", server);
    })
    .await;
    let began = Instant::now();
    let mut mute = TcpStream::connect(addr).await.unwrap();
    let mut wire = Wire::over(limited(identity.connect(addr, HTTP1)).await.unwrap());
    assert!(began.elapsed() >= limit, "the place was the other's");
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with("hello"));
    assert_eq!(limited(mute.read(&mut [0])).await.unwrap(), 0, "closed");
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
}

/// Connected before the drain, it shakes hands and asks within its time.
#[tokio::test]
async fn a_handshake_that_ends_in_the_drain_gets_its_request_served() {
    let (identity, listener) = (Identity::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let listener = TlsListener::new(listener, identity.server());
    let idle = Duration::from_millis(1_500);
    let running = Running::start_with(settings().grace_period(Duration::from_secs(10)), |life| {
        life.spawn("https", serve(listener, hello()).idle_drain_timeout(idle));
    })
    .await;
    let early = TcpStream::connect(addr).await.unwrap();
    // Sleeps: older than the idle drain timeout when the drain begins, and no event tells.
    tokio::time::sleep(idle + Duration::from_millis(100)).await;
    let queued = TcpStream::connect(addr).await.unwrap();
    running.stop();
    limited(running.handle.draining()).await;
    // Sleeps: well into the drain, within the time that they have.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let ask = async |stream, protocol: &'static [u8]| {
        let mut wire = Wire::over(limited(identity.over(stream, protocol)).await.unwrap());
        // Sleeps: a moment of silence between the handshake and the request, as there may be.
        tokio::time::sleep(Duration::from_millis(200)).await;
        wire.send(ASK).await;
        wire.rest().await
    };
    let (early, queued) = tokio::join!(ask(early, HTTP1), ask(queued, b""));
    for answer in [early, queued] {
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    assert_eq!(running.report().await.exit_code(), 0);
}

/// A request whose record is half-way here when the drain looks a last time: rustls has told
/// nobody of it.
#[tokio::test]
async fn half_a_record_is_not_taken_for_silence() {
    let server = Secure::start(hello()).await;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (half, halved) = tokio::sync::oneshot::channel::<()>();
    let handle = server.running.handle.clone();
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(theirs);
        let (mut socket_from, mut socket_to) = socket.split();
        let down = tokio::io::copy(&mut socket_from, &mut to);
        let up = async {
            let mut half = Some(half);
            loop {
                let mut piece = vec![0; 1 << 15];
                let len = from.read(&mut piece).await.unwrap();
                let split = if piece[0] == 23 && len > 400 { len / 2 } else { len };
                if socket_to.write_all(&piece[..split]).await.is_err() || len == 0 {
                    return;
                }
                if split < len {
                    drop(half.take());
                    handle.draining().await;
                    // Sleeps: a network's moment between two segments.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    socket_to.write_all(&piece[split..len]).await.unwrap();
                }
            }
        };
        drop(tokio::join!(down, up));
    });
    let mut wire = Wire::over(limited(server.identity.wrap(ours, HTTP1)).await.unwrap());
    // Sleeps: older than the idle drain timeout when the drain begins.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let cookie = "c".repeat(500);
    wire.send(&format!("GET / HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n")).await;
    drop(limited(halved).await);
    server.running.stop();
    assert!(wire.rest().await.ends_with("hello"));
    assert_eq!(server.running.report().await.exit_code(), 0);
}

/// Half of them silent, half of them dribbling a hello that never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_slow_handshakes_hold_neither_others_nor_the_drain() {
    let server = Secure::patient(hello()).await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = limited(TcpStream::connect(server.addr)).await.unwrap();
        slow.push(tokio::spawn(async move {
            // The header of a record that announces 8 KiB of handshake.
            let mut piece: &[u8] = &[22, 3, 1, 32, 0, 1, 0, 31, 252, 3, 3];
            while number % 2 == 0 && stream.write_all(piece).await.is_ok() {
                piece = &[7];
                // Sleeps: dribbling is what it does.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // Until the server closes; a reset is an end too.
            drop(stream.read(&mut [0]).await);
        }));
    }
    for _ in 0..50 {
        let began = Instant::now();
        let mut wire = server.wire(HTTP1).await;
        wire.send(ASK).await;
        assert!(wire.rest().await.ends_with("hello"));
        assert!(began.elapsed() < Duration::from_secs(2), "held for {:?}", began.elapsed());
    }
    let took = server.stopped().await;
    assert!(took > Duration::from_millis(900), "a handshake has its second: {took:?}");
    assert!(took < Duration::from_secs(5), "and no more: {took:?}");
    for client in slow {
        limited(client).await.unwrap();
    }
}

#[tokio::test]
async fn a_handler_can_ask_what_the_handshake_told() {
    #[derive(Clone)]
    struct Name(String);
    let (identity, listener) = (Identity::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let listener = TlsListener::new(listener, identity.server());
    let app =
        Router::new().route(
            "/",
            get(
                |ConnectInfo(peer): ConnectInfo<SocketAddr>,
                 Extension(Name(name)): Extension<Name>| {
                    async move { format!("{peer} asked for {name}") }
                },
            ),
        );
    let running = Running::start(|life| {
        let server = serve(listener, app).with_axum_connect_info();
        let server = server.with_connection_info(|stream, _| {
            let session = stream.get_ref().map(|(_, session)| session);
            Name(session.and_then(|session| session.server_name()).unwrap_or("?").to_owned())
        });
        life.spawn("https", server);
    })
    .await;
    let mut wire = Wire::over(identity.connect(addr, HTTP1).await.unwrap());
    let own = wire.stream.get_ref().0.local_addr().unwrap();
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with(&format!("{own} asked for localhost")));
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
}

/// TCP whose buffers are as small as the system has them, so that a session has to hold back
/// what the client does not read.
struct Narrow(TcpListener);

impl Listener for Narrow {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn narrow() -> (TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A response whose last bytes are encrypted and wait for the socket is in flight: its client
/// may read as slowly as the drain lasts. Of all these lengths some end within the session's
/// buffer, wherever the system draws the lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_session_still_holds_is_in_flight() {
    let (identity, (listener, addr)) = (Identity::new(), narrow().await);
    let app = Router::new().route(
        "/{kib}",
        get(|path: axum::extract::Path<usize>| async move { vec![b'x'; path.0 * 1024] }),
    );
    let listener = TlsListener::new(Narrow(listener), identity.server());
    let running = Running::start_with(settings().grace_period(Duration::from_secs(10)), |life| {
        let server = serve(listener, app).idle_drain_timeout(Duration::from_millis(50));
        life.spawn("https", server);
    })
    .await;
    let mut clients = Vec::new();
    for kib in (4..=128).step_by(4) {
        for protocol in [HTTP1, H2] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let stream =
                identity.over(socket.connect(addr).await.unwrap(), protocol).await.unwrap();
            clients.push((
                kib,
                tokio::spawn(read_late(stream, kib, protocol, running.handle.clone())),
            ));
        }
    }
    // Sleeps: until every response is as far as it gets; nobody reads.
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.stop();
    for (kib, client) in clients {
        assert_eq!(limited(client).await.unwrap(), kib * 1024, "whole, of {kib} KiB");
    }
    assert_eq!(running.report().await.exit_code(), 0);
}

/// Answers to PINGs are no response: a client that fills the connection with them and reads
/// nothing holds no drain, though the session has bytes that it cannot send.
#[tokio::test]
async fn a_client_that_pings_and_never_reads_is_let_go() {
    tokio::join!(pings_and_never_reads(Before::Nothing), pings_and_never_reads(Before::ARequest));
}

/// What such a client did before.
#[derive(PartialEq)]
enum Before {
    Nothing,
    /// Its answer was read: nothing of it is owed.
    ARequest,
}

async fn pings_and_never_reads(before: Before) {
    let (identity, (listener, addr)) = (Identity::new(), narrow().await);
    let listener = TlsListener::new(Narrow(listener), identity.server());
    let running = Running::start_with(settings().grace_period(Duration::from_secs(20)), |life| {
        life.spawn("https", serve(listener, hello()));
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = identity.over(socket.connect(addr).await.unwrap(), H2).await.unwrap();
    let hello = [PREFACE.as_bytes(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    stream.write_all(&hello).await.unwrap();
    if before == Before::ARequest {
        // HEADERS that end stream 1: GET, http, `/`, and an authority.
        let ask = [&[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84][..], b"\x01\x01x"].concat();
        stream.write_all(&ask).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(limited(stream.read_buf(&mut answer)).await.unwrap(), 0, "{answer:?}");
        }
    }
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(100);
    let full = async { while stream.write_all(&ping).await.is_ok() {} };
    let full = tokio::time::timeout(Duration::from_secs(1), full).await;
    assert!(full.is_err(), "neither end takes more");
    let began = Instant::now();
    running.stop();
    let report = running.report().await;
    assert_eq!(report.exit_code(), 0, "{report}");
    assert!(began.elapsed() < Duration::from_secs(6), "held for {:?}", began.elapsed());
}

/// Asks, and begins to read long after the drain began; the length of the response. HTTP/2 by
/// hand: a client that answered the server late would have its unread bytes reset.
async fn read_late(
    mut stream: Box<TlsStream<TcpStream>>,
    kib: usize,
    protocol: &[u8],
    handle: lifecycle::Handle,
) -> usize {
    let path = format!("/{kib}");
    let ask = if protocol == H2 {
        let block = [&[0x82, 0x86, 0x04, path.len() as u8], path.as_bytes(), b"\x01\x01x"].concat();
        let block_len = block.len() as u8;
        [
            PREFACE.as_bytes(),
            // SETTINGS: windows of 1 MiB for streams; the connection's by WINDOW_UPDATE; an ACK.
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 16, 0, 0],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            // HEADERS that end stream 1.
            &[0, 0, block_len, 1, 5, 0, 0, 0, 1],
            &block,
        ]
        .concat()
    } else {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
    };
    stream.write_all(&ask).await.unwrap();
    stream.flush().await.unwrap();
    handle.draining().await;
    // Sleeps: longer than any timeout for silent connections in this test, and than the time
    // that a last look gives.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer).await;
    if protocol == H2 {
        return data_len(&answer);
    }
    end.unwrap();
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    answer.len() - head
}

/// How much DATA these frames hold.
fn data_len(mut frames: &[u8]) -> usize {
    let mut sum = 0;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = frames {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        sum += if *kind == 0 { len.min(rest.len()) } else { 0 };
        frames = rest.get(len..).unwrap_or_default();
    }
    sum
}
