//! Request heads that no honest client sends, and those that two servers in a row could
//! read differently (request smuggling), under `serve` and at the probe server.
//!
//! hyper parses and refuses; what is shown here is what it answers (so that an update that
//! answers otherwise is noticed), that no second request is read out of a first one's body,
//! and that our own books stay right: each connection ends within its bound, none is held
//! at a stop right after, nothing is in flight.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use http::StatusCode;
use http_body_util::BodyExt;
use lifecycle::{Handle, Phase, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::wire::{Server, limited, settings};

/// What is sent, the statuses that come back, and the requests that the handler sees.
struct Case {
    name: &'static str,
    sent: Vec<u8>,
    answers: &'static [u16],
    seen: &'static [&'static str],
}

fn case(
    name: &'static str,
    sent: impl Into<Vec<u8>>,
    answers: &'static [u16],
    seen: &'static [&'static str],
) -> Case {
    Case { name, sent: sent.into(), answers, seen }
}

/// The second request that a body or a head tries to carry past a server in front of us.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

type Log = Arc<Mutex<Vec<String>>>;

/// Answers everything, and notes each request and what came of its body.
fn app(log: &Log) -> Router {
    let log = Arc::clone(log);
    Router::new().fallback(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let unread = request.uri().path() == "/unread";
            let (status, body) = if unread {
                (StatusCode::OK, "unread".to_owned())
            } else {
                match request.into_body().collect().await {
                    Ok(body) => {
                        let body = body.to_bytes();
                        (StatusCode::OK, String::from_utf8_lossy(&body).into_owned())
                    }
                    Err(_) => (StatusCode::BAD_REQUEST, "broken".to_owned()),
                }
            };
            let mut log = log.lock().unwrap();
            log.push(if body.is_empty() { line } else { format!("{line} {body}") });
            status
        }
    })
}

/// Sends everything and reads until the server ends the connection; what has come by then,
/// as the status of each answer.
async fn exchange(addr: SocketAddr, sent: &[u8]) -> Vec<u16> {
    let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
    // The server may close before it has all: that is an answer and no failure.
    let sending = async { drop(write.write_all(sent).await) };
    let mut bytes = Vec::new();
    let reading = async { drop(read.read_to_end(&mut bytes).await) };
    limited(async { tokio::join!(sending, reading) }).await;
    statuses(&bytes)
}

fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let answers = text.split("HTTP/1.1 ").skip(1);
    answers.map(|answer| answer[..3].parse().expect("a status")).collect()
}

/// Plays one case on a server of its own.
async fn play(case: Case) {
    let Case { name, sent, answers, seen } = case;
    let log = Log::default();
    let server = Server::start_with(
        settings(),
        |_| app(&log),
        |serve| {
            let serve = serve.header_read_timeout(Duration::from_millis(300));
            serve.keep_alive_timeout(Duration::from_millis(300))
        },
    )
    .await;
    // Open and half-way before the bad one comes, and served after it.
    let mut neighbour = TcpStream::connect(server.addr).await.unwrap();
    let began = Instant::now();
    let answered = tokio::spawn({
        let addr = server.addr;
        async move { exchange(addr, &sent).await }
    });
    neighbour.write_all(b"GET /neighbour HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    limited(neighbour.read_exact(&mut head)).await.expect("the neighbour is served");
    assert_eq!(&head, b"HTTP/1.1 200", "{name}");
    drop(neighbour);
    assert_eq!(limited(answered).await.unwrap(), answers, "{name}");
    // 0.3 s until a timeout, and at most 2 s of lingering.
    assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    let mut log: Vec<_> = log.lock().unwrap().clone();
    log.retain(|line| line != "GET /neighbour");
    assert_eq!(log, seen, "{name}");
    assert!(server.handle.blockers().is_empty(), "{name}");
    let asked = Instant::now();
    server.stop();
    let report = server.report().await;
    assert_eq!(report.exit_code(), 0, "{name}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{name}: {:?}", asked.elapsed());
    let held = report.notes().iter().any(|note| note.text.ends_with("connections held: 0"));
    assert!(held, "{name}: {:?}", report.notes());
}

async fn play_all(cases: Vec<Case>) {
    let mut playing = JoinSet::new();
    for case in cases {
        playing.spawn(play(case));
    }
    while let Some(played) = playing.join_next().await {
        played.unwrap();
    }
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
}

fn post_unread(headers: &str, body: &str) -> String {
    format!("POST /unread HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
}

fn malformed() -> Vec<Case> {
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    vec![
        case("a target beyond 64 KiB", get(&format!("/{}", "a".repeat(70_000)), ""), &[414], &[]),
        case("101 headers", get("/", &many(100)), &[431], &[]),
        case("100 headers", get("/", &many(99)), &[200], &["GET /"]),
        case(
            "a head beyond the read buffer",
            get("/", &format!("x: {}\r\n", "y".repeat(600_000))),
            &[431],
            &[],
        ),
        case("a NUL in a value", get("/", "x: a\0b\r\n"), &[400], &[]),
        case("a NUL in a name", get("/", "x\0y: a\r\n"), &[400], &[]),
        case("a NUL in the target", get("/a\0b", ""), &[400], &[]),
        case("a NUL first", "\0GET / HTTP/1.1\r\n\r\n", &[400], &[]),
        case("a bare CR in a value", get("/", "x: a\rb: c\r\n"), &[400], &[]),
        case("bare LF as line ends", "GET / HTTP/1.1\nhost: x\n\n", &[200], &["GET /"]),
        case("empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", &[200], &["GET /"]),
        case("a method that is no token", "G(T / HTTP/1.1\r\n\r\n", &[400], &[]),
        case("no method", " / HTTP/1.1\r\n\r\n", &[400], &[]),
        case("a method in lower case is another", "get / HTTP/1.1\r\n\r\n", &[200], &["get /"]),
        case("an absolute target", get("http://x/a", ""), &[200], &["GET http://x/a"]),
        case("no target", "GET HTTP/1.1\r\n\r\n", &[400], &[]),
        case("a target that is no URI", get("/a|b\"<", ""), &[400], &[]),
        case("a space in the target", get("/a b", ""), &[400], &[]),
        case("the whole server", "OPTIONS * HTTP/1.1\r\n\r\n", &[200], &["OPTIONS *"]),
        case("HTTP/0.9", "GET /\r\n", &[400], &[]),
        case("HTTP/2.0 as text", "GET / HTTP/2.0\r\nhost: x\r\n\r\n", &[400], &[]),
        case("HTTP/1.2", "GET / HTTP/1.2\r\nhost: x\r\n\r\n", &[400], &[]),
        case("nearly the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[400], &[]),
        case("a header without a name", get("/", ": y\r\n"), &[400], &[]),
        case("a header without a colon", get("/", "xy\r\n"), &[400], &[]),
        case("a space in a name", get("/", "x y: z\r\n"), &[400], &[]),
        case(
            "a TLS handshake",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            &[400],
            &[],
        ),
        case("bytes beyond ASCII", vec![0xff; 64], &[400], &[]),
        case("half a head and silence", "GET / HTTP/1.1\r\nho", &[], &[]),
        case("nothing but line ends", "\r\n\r\n\r\n", &[], &[]),
    ]
}

/// HTTP/2 with prior knowledge and something else behind it: ended by GOAWAY.
fn malformed_http2() -> Vec<Case> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let with = |name, frames: &[u8]| case(name, [preface, frames].concat(), &[], &[]);
    let after = |name, frames: &[u8]| case(name, [preface, settings, frames].concat(), &[], &[]);
    vec![
        with("no frames", SMUGGLED.as_bytes()),
        with("another frame before SETTINGS", &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        after("a frame beyond its size", &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        after("DATA on no stream", &[0, 0, 1, 0, 0, 0, 0, 0, 0, b'x']),
        after("DATA on a stream that nobody opened", &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x']),
        after("HEADERS on a stream of the server's", &[0, 0, 1, 1, 4, 0, 0, 0, 2, 0x82]),
        after("HEADERS that HPACK cannot read", &[0, 0, 2, 1, 5, 0, 0, 0, 1, 0xff, 0xff]),
        after("PUSH_PROMISE from a client", &[0, 0, 5, 5, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0x82]),
        after("a SETTINGS of odd length", &[0, 0, 1, 4, 0, 0, 0, 0, 0, 0]),
        after("a WINDOW_UPDATE of nothing", &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        after("CONTINUATION of nothing", &[0, 0, 1, 9, 4, 0, 0, 0, 1, 0x82]),
    ]
}

fn smuggling_by_length() -> Vec<Case> {
    let with = |name, headers: &str, answers, seen| {
        let body = format!("hello{SMUGGLED}");
        case(name, post(headers, &body), answers, seen)
    };
    let length = SMUGGLED.len();
    let body = format!("content-length: {length}\r\n");
    let unread = post_unread(&body, SMUGGLED);
    vec![
        with("two lengths", "content-length: 5\r\ncontent-length: 6\r\n", &[400], &[]),
        with("two lengths, zero first", "content-length: 0\r\ncontent-length: 5\r\n", &[400], &[]),
        // One length said twice is one; what follows is the client's next request.
        with(
            "one length twice",
            "content-length: 5\r\ncontent-length: 5\r\n",
            &[200, 200],
            &["POST / hello", "GET /smuggled"],
        ),
        with("a list of lengths", "content-length: 5, 5\r\n", &[400], &[]),
        with("a plus sign", "content-length: +5\r\n", &[400], &[]),
        with("a minus sign", "content-length: -5\r\n", &[400], &[]),
        with("a hexadecimal length", "content-length: 0x5\r\n", &[400], &[]),
        with("an empty length", "content-length:\r\n", &[400], &[]),
        with("a length beyond 64 bits", "content-length: 99999999999999999999\r\n", &[400], &[]),
        with("the longest length", "content-length: 18446744073709551615\r\n", &[431], &[]),
        with("a space before the colon", "content-length : 5\r\n", &[400], &[]),
        with("a folded length", "content-length:\r\n 5\r\n", &[400], &[]),
        with("a folded value elsewhere", "x: a\r\n b\r\ncontent-length: 5\r\n", &[400], &[]),
        case(
            "a request as the body of a GET",
            format!("{}{SMUGGLED}", get("/", &body)),
            &[200],
            &["GET / GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"],
        ),
        case(
            "the longest length that is one",
            post_unread("content-length: 18446744073709551613\r\n", SMUGGLED),
            &[200],
            &["POST /unread unread"],
        ),
        case(
            "chunks that nobody reads and nobody ends",
            post_unread("transfer-encoding: chunked\r\n", &format!("ffff\r\n{SMUGGLED}")),
            &[200],
            &["POST /unread unread"],
        ),
        case("a request as a body that nobody reads", unread, &[200], &["POST /unread unread"]),
    ]
}

fn smuggling_by_chunks() -> Vec<Case> {
    let with = |name, headers: &str, body: &str, answers, seen| {
        case(name, post(headers, &format!("{body}{SMUGGLED}")), answers, seen)
    };
    let (chunked, whole) = ("transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n");
    let (hello, broken) = (&["POST / hello"], &["POST / broken"]);
    let both = "content-length: 4\r\ntransfer-encoding: chunked\r\n";
    let turned = "transfer-encoding: chunked\r\ncontent-length: 4\r\n";
    let many = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(17 * 1024));
    let trailers = format!("5\r\nhello\r\n0\r\nt: {}\r\n\r\n", "x".repeat(17 * 1024));
    vec![
        // The chunks count, and the connection ends: what follows is nobody's request.
        with("a length and chunks", both, whole, &[200], hello),
        with("chunks and a length", turned, whole, &[200], hello),
        with(
            "the last coding is not chunked",
            "transfer-encoding: chunked, identity\r\n",
            whole,
            &[400],
            &[],
        ),
        with("an unknown coding", "transfer-encoding: xchunked\r\n", whole, &[400], &[]),
        with("a vertical tab", "transfer-encoding: \x0bchunked\r\n", whole, &[400], &[]),
        with(
            "a coding in two lines",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            whole,
            &[400],
            &[],
        ),
        with("a folded coding", "transfer-encoding:\r\n chunked\r\n", whole, &[400], &[]),
        with("a space before the colon", "transfer-encoding : chunked\r\n", whole, &[400], &[]),
        // hyper looks at the last coding alone, and undoes chunks once.
        with(
            "identity first",
            "transfer-encoding: identity, chunked\r\n",
            whole,
            &[200, 200],
            &["POST / hello", "GET /smuggled"],
        ),
        with(
            "chunked twice",
            "transfer-encoding: chunked, chunked\r\n",
            whole,
            &[200, 200],
            &["POST / hello", "GET /smuggled"],
        ),
        case(
            "chunks in HTTP/1.0",
            format!("POST / HTTP/1.0\r\n{chunked}\r\n{whole}{SMUGGLED}"),
            &[400],
            &[],
        ),
        with("a chunk beyond 64 bits", chunked, "fffffffffffffffff\r\n", &[400], broken),
        with("a negative chunk", chunked, "-5\r\nhello\r\n0\r\n\r\n", &[400], broken),
        with("a chunk with a prefix", chunked, "0x5\r\nhello\r\n0\r\n\r\n", &[400], broken),
        with("a chunk of no size", chunked, "\r\nhello\r\n0\r\n\r\n", &[400], broken),
        with("a chunk longer than it says", chunked, "4\r\nhello\r\n0\r\n\r\n", &[400], broken),
        with("chunks with bare LF", chunked, "5\nhello\n0\n\n", &[400], broken),
        with("an extension with a bare LF", chunked, "5;x\nhello\r\n0\r\n\r\n", &[400], broken),
        with(
            "an extension",
            chunked,
            "5;x=\"y\"\r\nhello\r\n0\r\n\r\n",
            &[200, 200],
            &["POST / hello", "GET /smuggled"],
        ),
        with("extensions beyond 16 KiB", chunked, &many, &[400], broken),
        with("trailers beyond 16 KiB", chunked, &trailers, &[400], broken),
    ]
}

#[tokio::test]
async fn malformed_heads_are_refused_and_cost_their_connection_only() {
    play_all(malformed()).await;
}

#[tokio::test]
async fn two_ways_to_read_a_length_never_make_a_second_request() {
    play_all(smuggling_by_length()).await;
}

#[tokio::test]
async fn two_ways_to_read_chunks_never_make_a_second_request() {
    play_all(smuggling_by_chunks()).await;
}

#[tokio::test]
async fn malformed_http2_costs_its_connection_only() {
    play_all(malformed_http2()).await;
}

/// Closing on bytes that are still on their way would reset the connection, and some clients
/// would never see the answer.
#[tokio::test]
async fn a_refusal_arrives_without_a_reset_though_the_client_sends_on() {
    for head in ["GET / HTTP/3.7\r\n".to_owned(), get(&format!("/{}", "a".repeat(70_000)), "")] {
        let log = Log::default();
        let server = Server::start(|_| app(&log)).await;
        let mut wire = server.connect().await;
        wire.send(&head).await;
        wire.expect("\r\n\r\n").await;
        for _ in 0..5 {
            wire.send(&"x".repeat(1_000)).await;
            // Sleeps: each in a segment of its own, after the answer.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wire.stream.shutdown().await.expect("no reset");
        assert!(wire.rest().await.starts_with("HTTP/1.1 4"));
        server.stop();
        assert_eq!(server.report().await.exit_code(), 0);
    }
}

/// Bytes that trickle in do not move the end of a head's time; during a stop they do so a few
/// times at most.
#[tokio::test]
async fn a_head_that_trickles_in_is_cut_at_its_timeout() {
    let (timeout, log) = (Duration::from_millis(500), Log::default());
    let server = Server::start_with(
        settings().grace_period(Duration::from_secs(12)),
        |_| app(&log),
        |serve| serve.header_read_timeout(timeout).idle_drain_timeout(timeout),
    )
    .await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(trickle(server.addr));
    }
    assert_eq!(exchange(server.addr, get("/", "connection: close\r\n").as_bytes()).await, [200]);
    for slow in slow {
        let took = limited(slow).await.unwrap();
        // The whole head would take ten seconds.
        assert!(took >= timeout && took < Duration::from_secs(6), "{took:?}");
    }
    let late = trickle(server.addr);
    // Sleeps: a part of the head has come by now.
    tokio::time::sleep(Duration::from_millis(250)).await;
    server.stop();
    limited(server.handle.reached(Phase::Draining)).await;
    let took = limited(late).await.unwrap();
    // Last looks that find a byte give it half a second each, three times at most; the hard
    // stop is later than that.
    assert!(took >= timeout && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(server.report().await.exit_code(), 0);
    assert_eq!(*log.lock().unwrap(), ["GET /"]);
}

/// Sends a head at a byte in 100 ms; how long until the server ends it.
fn trickle(addr: SocketAddr) -> tokio::task::JoinHandle<Duration> {
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let (mut read, mut write) = stream.split();
        let began = Instant::now();
        let sending = async {
            let padding = format!("x-padding: {}\r\n", "p".repeat(60));
            for byte in get("/slow", &padding).into_bytes() {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                // Sleeps: the client's slowness is what is tested.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut bytes = Vec::new();
        tokio::select! {
            () = sending => {}
            _ = read.read_to_end(&mut bytes) => {}
        }
        let answer = String::from_utf8_lossy(&bytes);
        assert_eq!(answer, "", "no answer to half a head");
        began.elapsed()
    })
}

/// Starts the probe server of a lifecycle that runs until it is told to stop.
async fn probes() -> (SocketAddr, Handle, tokio::task::JoinHandle<Report>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut life = settings().probe_addr(any).build_local().unwrap();
    let addr = life.serve_probes().await.unwrap().expect("not off");
    let handle = life.handle();
    let run = tokio::spawn(async move { life.run().await.unwrap() });
    limited(handle.reached(Phase::Running)).await;
    (addr, handle, run)
}

/// The same bytes at the probe server: refused alike, but for what it does not know.
#[tokio::test]
async fn the_probe_server_refuses_the_same_and_goes_on_answering() {
    let (addr, handle, run) = probes().await;
    let all = [malformed(), smuggling_by_length(), smuggling_by_chunks()];
    let mut asked = JoinSet::new();
    for case in all.into_iter().flatten().filter(|case| !case.answers.is_empty()) {
        asked.spawn(async move {
            let Case { name, sent, answers, seen } = case;
            let mut stream = TcpStream::connect(addr).await.unwrap();
            drop(stream.write_all(&sent).await);
            drop(stream.shutdown().await);
            let mut bytes = Vec::new();
            drop(limited(stream.read_to_end(&mut bytes)).await);
            let got = statuses(&bytes);
            match seen.first() {
                None => assert_eq!(got, answers, "{name}"),
                // Well formed: a path that is not its own, whatever the method, its body unread.
                Some(_) => {
                    assert_eq!(got.first(), Some(&404), "{name}");
                    assert!(got.len() <= answers.len(), "{name}: {got:?}");
                }
            }
        });
    }
    while let Some(asked) = asked.join_next().await {
        asked.unwrap();
    }
    let live = get("/livez", "connection: close\r\n");
    assert_eq!(exchange(addr, live.as_bytes()).await, [200]);
    handle.shutdown("test");
    assert_eq!(limited(run).await.unwrap().exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn mute_and_slow_clients_of_the_probe_server_have_five_seconds() {
    let (addr, handle, run) = probes().await;
    for half in ["", "GET /livez HTTP/1.1\r\nho", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET"] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        let began = Instant::now();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let took = began.elapsed();
        assert!(took <= Duration::from_millis(5_100), "{half:?}: {took:?}");
        let answers: &[u16] = if half.ends_with("\r\nGET") { &[200] } else { &[] };
        assert_eq!(statuses(&bytes), answers, "{half:?}");
    }
    handle.shutdown("test");
    assert_eq!(run.await.unwrap().exit_code(), 0);
}

#[tokio::test]
async fn asked_after_the_end_the_probe_server_is_gone() {
    let (addr, handle, run) = probes().await;
    let mut held = TcpStream::connect(addr).await.unwrap();
    held.write_all(get("/livez", "").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    limited(held.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    handle.shutdown("test");
    assert_eq!(limited(run).await.unwrap().exit_code(), 0);
    // What was held ends, and nobody is let in any more.
    drop(limited(held.read_to_end(&mut Vec::new())).await);
    limited(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
}

/// More mute clients than it serves at a time: the oldest go, and whoever asks is answered.
#[tokio::test]
async fn a_crowd_of_mute_clients_does_not_blind_the_probe_server() {
    let (addr, handle, run) = probes().await;
    let mut mute = Vec::new();
    for _ in 0..600 {
        mute.push(TcpStream::connect(addr).await.unwrap());
    }
    let began = Instant::now();
    let live = get("/livez", "connection: close\r\n");
    assert_eq!(exchange(addr, live.as_bytes()).await, [200]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    handle.shutdown("test");
    assert_eq!(limited(run).await.unwrap().exit_code(), 0);
}
