//! Unix sockets: served, swept and drained as TCP is, and the file of the socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lifecycle_tower::{Listener, OwnedUnixListener, serve};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::listeners::{ASK, Running, hello, until_refused};
use crate::wire::{Wire, limited};

async fn connect(path: &Path) -> Wire<UnixStream> {
    Wire::over(limited(UnixStream::connect(path)).await.unwrap())
}

#[tokio::test]
async fn both_protocols_are_served_and_the_peer_is_known() {
    /// As in axum's own example for Unix sockets.
    #[derive(Clone)]
    struct Uds {
        uid: u32,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let app = Router::new().route(
        "/",
        get(
            |ConnectInfo(addr): ConnectInfo<tokio::net::unix::SocketAddr>,
             ConnectInfo(uds): ConnectInfo<Uds>| async move {
                format!("unnamed: {}, uid: {}", addr.is_unnamed(), uds.uid)
            },
        ),
    );
    let running = Running::start(|life| {
        let server = serve(listener, app).with_axum_connect_info();
        let server = server.with_connection_info(|socket, _| {
            ConnectInfo(Uds { uid: socket.peer_cred().map_or(u32::MAX, |cred| cred.uid()) })
        });
        life.spawn("http", server);
    })
    .await;
    let mut wire = connect(&path).await;
    wire.send(ASK).await;
    let own = rustix::process::getuid().as_raw();
    let answer = wire.rest().await;
    assert!(answer.ends_with(&format!("unnamed: true, uid: {own}")), "{answer}");

    let io = TokioIo::new(UnixStream::connect(&path).await.unwrap());
    let (mut sender, conn) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let conn = tokio::spawn(conn);
    let answer = limited(sender.send_request(crate::wire::get("/"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    running.stop();
    limited(conn).await.unwrap().expect("GOAWAY, and a clean end");
    assert_eq!(running.report().await.exit_code(), 0);
}

#[tokio::test]
async fn what_waits_in_the_accept_queue_is_served_and_the_listener_is_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()).connection_limit(1));
    })
    .await;
    let mut holder = connect(&path).await;
    holder.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    holder.expect("hello").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut wire = connect(&path).await;
        wire.send(ASK).await;
        waiting.push(wire);
    }
    running.stop();
    for wire in waiting {
        let answer = wire.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    let report = running.report().await;
    assert_eq!(report.exit_code(), 0);
    let report = report.to_string();
    assert!(report.contains("http.sock") && report.contains("swept: 20"), "{report}");
}

/// What makes the next one safe: the race is too short to be met every time.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn connecting_is_refused_before_the_sweep_and_the_queue_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let mut listener = OwnedUnixListener::bind(&path).unwrap();
    let early = UnixStream::connect(&path).await.unwrap();
    listener.refuse_new();
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let (taken, _) = listener.try_accept().unwrap();
    drop(taken);
    assert_eq!(Wire::over(early).rest().await, "", "the queued one was taken");
    let none = listener.try_accept().map(drop).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
}

/// The sweep under fire. Each client is answered, or is refused before it has sent a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_reset_after_it_has_sent_over_unix() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let path = folder.path().join(format!("{round}.sock"));
        let listener = OwnedUnixListener::bind(&path).unwrap();
        let running = Running::start(|life| {
            life.spawn("http", serve(listener, hello()));
        })
        .await;
        let (idle, mut all_at_work) = mpsc::channel(1);
        let client = |_| {
            let (path, idle) = (path.clone(), idle.clone());
            tokio::spawn(async move { until_refused(|| UnixStream::connect(&path), idle).await })
        };
        let clients: Vec<_> = (0..16).map(client).collect();
        drop(idle);
        assert_eq!(limited(all_at_work.recv()).await, None);
        // Sleeps: the time under fire before the stop.
        tokio::time::sleep(Duration::from_millis(20)).await;
        running.stop();
        for client in clients {
            let (answered, lost) = limited(client).await.unwrap();
            assert!(answered > 0, "the client was at work");
            assert_eq!(lost, Vec::<String>::new());
        }
        assert_eq!(running.report().await.exit_code(), 0);
    }
}

#[tokio::test]
async fn a_stale_file_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let living = OwnedUnixListener::bind(&path).unwrap();
    let refused = OwnedUnixListener::bind(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "somebody listens");
    let refused = UnixStream::connect(&path).await.map(drop);
    refused.expect("the one that listens has not been touched");
    drop(living);

    // What a process that was killed leaves behind.
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = OwnedUnixListener::bind(&path).unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()));
    })
    .await;
    let mut wire = connect(&path).await;
    wire.send(ASK).await;
    assert!(wire.rest().await.ends_with("hello"));
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);

    let file = folder.path().join("a file of somebody's");
    std::fs::write(&file, "precious").unwrap();
    let refused = OwnedUnixListener::bind(&file).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

/// The queue is full, nobody accepts: still somebody's.
#[tokio::test]
async fn a_listener_that_is_too_busy_to_accept_is_not_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let busy = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), UnixStream::connect(&path)).await
    {
        queued.push(stream);
    }
    assert!(!queued.is_empty());
    let refused = OwnedUnixListener::bind(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    drop(busy);
}

#[tokio::test]
async fn the_file_goes_with_its_listener_but_not_that_of_a_successor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = OwnedUnixListener::bind(&path).unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()));
    })
    .await;
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
    assert!(!path.exists(), "removed with the listener");

    let first = OwnedUnixListener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = OwnedUnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists(), "it is the second's");
    drop(second);
    assert!(!path.exists());
}

#[tokio::test]
async fn tokios_own_listener_leaves_its_file_to_who_has_bound_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let running = Running::start(|life| {
        life.spawn("http", serve(listener, hello()));
    })
    .await;
    running.stop();
    assert_eq!(running.report().await.exit_code(), 0);
    assert!(path.exists());
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
