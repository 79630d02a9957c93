//! Sockets that were taken over by another protocol.

use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::any;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use lifecycle::Stage;
use lifecycle_tower::DrainToken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tls::Secure;
use crate::wire::{Server, hard_stop, limited, wide_window};

/// Switches protocols and hands the socket to `taken`.
fn app<F, Fut>(taken: F) -> Router
where
    F: Fn(TokioIo<Upgraded>, DrainToken) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let handler = move |Extension(token): Extension<DrainToken>,
                        mut request: axum::extract::Request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(socket) = upgrade.await {
                taken(TokioIo::new(socket), token).await;
            }
        });
        http::Response::builder()
            .status(http::StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "chat")
            .body(axum::body::Body::empty())
            .unwrap()
    };
    Router::new().route("/chat", any(handler))
}

async fn upgraded(server: &Server) -> TokioIo<Upgraded> {
    let mut sender = server.http1().await;
    let request = http::Request::get("/chat")
        .header("host", "x")
        .header("connection", "upgrade")
        .header("upgrade", "chat")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = limited(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(limited(hyper::upgrade::on(response)).await.unwrap())
}

#[tokio::test]
async fn a_handler_sees_the_token_and_the_drain_waits_for_its_socket() {
    let server = Server::start(|_| {
        app(|mut socket, token| async move {
            socket.write_all(b"hi").await.unwrap();
            token.draining().await;
            // Sleeps: the goodbye that the handler takes its time for.
            tokio::time::sleep(Duration::from_millis(200)).await;
            socket.write_all(b"bye").await.unwrap();
        })
    })
    .await;
    let mut socket = upgraded(&server).await;
    let mut hi = [0; 2];
    limited(socket.read_exact(&mut hi)).await.unwrap();
    let blockers = server.handle.blockers();
    assert_eq!(blockers.len(), 1);
    assert_eq!((blockers[0].name.as_str(), blockers[0].stage), ("GET /chat", Stage::Upgraded));
    server.stop();
    let mut rest = String::new();
    limited(socket.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "bye");
    let report = server.report().await;
    assert_eq!(report.exit_code(), 0);
    assert!(report.took() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_handler_deaf_to_the_token_gets_an_error_at_the_hard_stop() {
    let (told, mut tell) = tokio::sync::mpsc::channel(1);
    let app = |_| {
        app(move |mut socket, _token| {
            let told = told.clone();
            async move {
                let mut byte = [0];
                let error = socket.read(&mut byte).await.expect_err("the hard stop");
                told.send(error.to_string()).await.unwrap();
            }
        })
    };
    let server = Server::start_with(wide_window(), app, |serve| serve).await;
    let _socket = upgraded(&server).await;
    hard_stop(&server.handle).await;
    let report = server.report().await;
    assert_eq!(report.exit_code(), 3, "it was cut");
    assert_eq!(report.cuts().len(), 1, "and left within the cancel window");
    assert_eq!(report.cuts()[0].blockers[0].name, "GET /chat");
    let error = limited(tell.recv()).await.unwrap();
    assert!(error.contains("hard stop"), "{error}");
}

#[tokio::test]
async fn both_halves_of_a_split_socket_learn_of_the_hard_stop() {
    let (told, mut tell) = tokio::sync::mpsc::channel(2);
    let server = Server::start(|_| {
        app(move |socket, _token| {
            let told = told.clone();
            async move {
                let (mut read, mut write) = tokio::io::split(socket);
                let reader = async {
                    let mut byte = [0];
                    read.read(&mut byte).await.expect_err("the hard stop");
                    told.send("reader").await.unwrap();
                };
                let writer = async {
                    // Writes until the socket takes no more, and waits there.
                    while write.write_all(&[0; 65536]).await.is_ok() {}
                    told.send("writer").await.unwrap();
                };
                let (reader, writer) = (Box::pin(reader), Box::pin(writer));
                tokio::join!(reader, writer);
            }
        })
    })
    .await;
    let _socket = upgraded(&server).await;
    server.stop();
    limited(server.handle.cancelled()).await;
    let mut both = [limited(tell.recv()).await, limited(tell.recv()).await];
    both.sort();
    assert_eq!(both, [Some("reader"), Some("writer")]);
    assert_eq!(server.report().await.exit_code(), 3);
}

/// A TLS session takes what is written and waits in the flush for a client that does not read.
#[tokio::test]
async fn a_flush_that_waits_learns_of_the_hard_stop_too() {
    let (told, mut tell) = tokio::sync::mpsc::channel(1);
    let secure = Secure::start(app(move |mut socket, _token| {
        let told = told.clone();
        async move {
            while socket.write_all(&[0; 4096]).await.is_ok() && socket.flush().await.is_ok() {}
            told.send(()).await.unwrap();
        }
    }))
    .await;
    let mut wire = secure.wire(crate::tls::HTTP1).await;
    wire.send("GET /chat HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n")
        .await;
    wire.expect("101").await;
    secure.running.stop();
    limited(secure.running.handle.cancelled()).await;
    limited(tell.recv()).await.expect("the handler is told");
    assert_eq!(secure.running.report().await.exit_code(), 3);
}

#[tokio::test]
async fn an_upgraded_socket_keeps_its_place_under_the_limit() {
    let server = Server::start_with(
        crate::wire::settings(),
        |_| {
            app(|mut socket, _token| async move {
                let mut rest = Vec::new();
                drop(socket.read_to_end(&mut rest).await);
            })
        },
        |serve| serve.connection_limit(1),
    )
    .await;
    let first = upgraded(&server).await;
    let mut second = server.connect().await;
    second.send("GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.expect("404")).await;
    assert!(early.is_err(), "the upgraded socket holds the only place");
    drop(first);
    assert!(second.rest().await.starts_with("HTTP/1.1 404"));
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}

/// Half-closing an upgraded socket is its owner's affair: what the peer has sent is still there.
#[tokio::test]
async fn a_half_closed_upgraded_socket_can_still_be_read() {
    let (told, mut tell) = tokio::sync::mpsc::channel(1);
    let server = Server::start(|_| {
        app(move |mut socket, _token| {
            let told = told.clone();
            async move {
                // The peer has sent, and nobody has read it, when this half closes.
                let mut first = [0];
                socket.read_exact(&mut first).await.unwrap();
                socket.shutdown().await.unwrap();
                let mut rest = String::new();
                socket.read_to_string(&mut rest).await.unwrap();
                told.send(rest).await.unwrap();
            }
        })
    })
    .await;
    let mut socket = upgraded(&server).await;
    socket.write_all(b"!still here").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(limited(tell.recv()).await.unwrap(), "still here");
    server.stop();
    assert_eq!(server.report().await.exit_code(), 0);
}
