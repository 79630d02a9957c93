//! What no data of a body holds, on HTTP/2, to clients that read late: heads and trailers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use lifecycle::{Handle, Lifecycle, Phase, Report};
use lifecycle_tower::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::{limited, settings};

/// A server whose sockets keep as little as the system has them.
async fn narrow(app: Router) -> (SocketAddr, Handle, JoinHandle<Report>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut life: Lifecycle =
        settings().grace_period(Duration::from_secs(12)).build_local().unwrap();
    let server = serve(listener, app).idle_drain_timeout(Duration::from_millis(50));
    life.spawn("http", server);
    let handle = life.handle();
    let run = tokio::spawn(async move { life.run().await.unwrap() });
    limited(handle.reached(Phase::Running)).await;
    (addr, handle, run)
}

/// An answer that is a head alone holds nothing while it waits in the connection's buffers:
/// it is owed all the same.
#[tokio::test]
async fn answers_without_a_body_reach_an_http2_client_that_reads_late() {
    let large = || async { (StatusCode::NO_CONTENT, [("x-large", "x".repeat(8_000))]) };
    let (addr, handle, run) = narrow(Router::new().route("/", get(large))).await;
    let stream = ask(addr).await;
    let bytes = read_late(stream, Vec::new(), &handle).await;
    assert_eq!(frames(&bytes, HEADERS), usize::from(ASKS));
    assert_eq!(limited(run).await.unwrap().exit_code(), 0);
}

/// A body that ends with trailers never says that it has ended, and its data may be long with
/// the client by then: its trailers are owed all the same.
#[tokio::test]
async fn trailers_reach_an_http2_client_that_reads_late() {
    let (release, released) = watch::channel(false);
    let answer = move || {
        let mut released = released.clone();
        async move {
            let trailers = async move {
                let _all = released.wait_for(|released| *released).await;
                let large = "x".repeat(8_000).parse().unwrap();
                Some(Ok(HeaderMap::from_iter([("x-large".parse().unwrap(), large)])))
            };
            Body::new(Full::<Bytes>::from("hello").with_trailers(trailers))
        }
    };
    let (addr, handle, run) = narrow(Router::new().route("/", get(answer))).await;
    let mut stream = ask(addr).await;
    let mut bytes = Vec::new();
    while frames(&bytes, DATA) < usize::from(ASKS) {
        let len = limited(stream.read_buf(&mut bytes)).await.unwrap();
        assert!(len > 0, "the end came before the data");
    }
    release.send(true).unwrap();
    let bytes = read_late(stream, bytes, &handle).await;
    assert_eq!(frames(&bytes, HEADERS), 2 * usize::from(ASKS), "a head and trailers each");
    assert_eq!(limited(run).await.unwrap().exit_code(), 0);
}

/// A client that takes in little, and has asked.
async fn ask(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    stream.write_all(&asks(ASKS)).await.unwrap();
    stream
}

/// What has come at the end, however it ends, if nobody reads until the drain has lasted for
/// long.
async fn read_late(mut stream: TcpStream, mut bytes: Vec<u8>, handle: &Handle) -> Vec<u8> {
    // Sleeps: until the answers are as far as they get; nobody reads.
    tokio::time::sleep(Duration::from_millis(300)).await;
    handle.shutdown("test");
    handle.draining().await;
    // Sleeps: longer than any timeout for silent connections in this test, and than the time
    // that a last look gives.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(limited(stream.read_to_end(&mut bytes)).await);
    bytes
}

/// A client's greeting and this many requests, by hand.
fn asks(count: u8) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
    for at in 0..count {
        // HEADERS that end their stream: GET, http, /, and an authority.
        bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, 2 * at + 1, 0x82, 0x86, 0x84, 0x01, 1, b'x']);
    }
    bytes
}

/// How many whole frames of that kind there are.
fn frames(bytes: &[u8], kind: u8) -> usize {
    let (mut count, mut frames) = (0, bytes);
    while let [a, b, c, found, _, _, _, _, _, rest @ ..] = frames {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        count += usize::from(*found == kind && rest.len() >= len);
        frames = rest.get(len..).unwrap_or_default();
    }
    count
}

const ASKS: u8 = 60;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
