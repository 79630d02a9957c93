//! Late requests, refused by the layer for those who ask for it: by hand, and under axum's own
//! server.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use lifecycle::{Builder, Handle, Phase, Report};
use lifecycle_tower::{DrainBody, DrainLayer, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::wire::{Server, Wire, hard_stop, limited, settings, wide_window};

/// A body as a misbehaving client's: what it does, and how many bytes were taken of it.
struct Sent {
    does: Does,
    taken: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Does {
    Streams,
    Stalls,
    Fails,
    Ends,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.does {
            Does::Streams => {
                self.taken.fetch_add(KIB.len(), Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&KIB)))))
            }
            Does::Stalls => Poll::Pending,
            Does::Fails => Poll::Ready(Some(Err("reset"))),
            Does::Ends => Poll::Ready(None),
        }
    }
}

static KIB: [u8; 1024] = [b'x'; 1024];

/// A layered service in a drain that a component holds, how often it was called, and how many bytes were
/// taken of the bodies sent.
struct Late {
    layer: DrainLayer,
    calls: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

type Answer = Response<DrainBody<Full<Bytes>>>;

impl Late {
    async fn new(refusal: Refusal) -> Self {
        let mut life = settings().build_local().unwrap();
        let handle = life.handle();
        let layer = DrainLayer::new(&handle).refuse_late(refusal);
        life.spawn("server", std::future::pending::<()>());
        tokio::spawn(life.run());
        handle.shutdown("test");
        handle.draining().await;
        let (calls, taken) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        Self { layer, calls, taken }
    }

    /// What becomes of a request with that body.
    fn ask(&self, request: http::request::Builder, does: Does) -> impl Future<Output = Answer> {
        let calls = self.calls.clone();
        let inner = tower::service_fn(move |_: Request<Sent>| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(Response::new(Full::from("served"))) }
        });
        let body = Sent { does, taken: self.taken.clone() };
        let answer = self.layer.layer(inner).oneshot(request.body(body).unwrap());
        async { answer.await.unwrap() }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_late_request_gets_503_and_never_reaches_the_service() {
    let late = Late::new(Refusal::new()).await;
    let answer = late.ask(Request::get("/orders"), Does::Ends).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "retry-after"), Some("5"));
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert_eq!(answer.body().size_hint().exact(), Some(0));
    assert!(answer.body().is_end_stream());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "");
    assert_eq!(late.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_setting_in_whole_seconds() {
    let late = Late::new(Refusal::new().retry_after(Duration::from_millis(1_200))).await;
    let answer = late.ask(Request::get("/"), Does::Ends).await;
    assert_eq!(header(&answer, "retry-after"), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn probe_paths_are_served_and_are_a_setting() {
    let late = Late::new(Refusal::new()).await;
    for path in ["/livez", "/readyz", "/readyz/postgres", "/startupz", "/healthz", "/statusz"] {
        assert_eq!(late.ask(Request::get(path), Does::Ends).await.status(), StatusCode::OK);
    }
    assert_eq!(late.calls(), 6);
    let late = Late::new(Refusal::new().exempt(["/ping"])).await;
    assert_eq!(late.ask(Request::get("/ping"), Does::Ends).await.status(), StatusCode::OK);
    let answer = late.ask(Request::get("/livez"), Does::Ends).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn http2_has_no_connection_header_and_grpc_a_status_of_its_own() {
    let late = Late::new(Refusal::new()).await;
    let request = || Request::post("/shop.Orders/Place").version(Version::HTTP_2);
    let answer = late.ask(request(), Does::Ends).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "connection"), None);
    let grpc = request().header("content-type", "application/grpc+proto");
    // A client that streams would never end its body by itself.
    let answer = late.ask(grpc, Does::Streams).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "grpc-status"), Some("14"));
    assert_eq!(header(&answer, "content-type"), Some("application/grpc+proto"));
    assert_eq!(header(&answer, "retry-after"), None);
    assert!(answer.body().is_end_stream(), "trailers only");
    assert_eq!(late.taken(), 0);
}

/// On HTTP/1 (gRPC-Web) what is left unread resets the connection, whatever its content type.
#[tokio::test(start_paused = true)]
async fn the_body_of_a_grpc_web_call_on_http1_is_thrown_away_as_any_other() {
    let late = Late::new(Refusal::new()).await;
    let request = Request::post("/t/Unary").header("content-type", "application/grpc-web+proto");
    let answer = late.ask(request, Does::Streams).await;
    assert_eq!(header(&answer, "grpc-status"), Some("14"));
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert_eq!(late.taken(), 257 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_streams_is_thrown_away_up_to_a_bound_of_bytes() {
    let late = Late::new(Refusal::new()).await;
    let answer = late.ask(Request::post("/"), Does::Streams).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(late.taken(), 257 * 1024, "256 KiB, and the frame that was too much");
    let late = Late::new(Refusal::new().discard_limit(0, Duration::from_secs(1))).await;
    late.ask(Request::post("/"), Does::Streams).await;
    assert_eq!(late.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_waited_for_up_to_a_bound_of_time() {
    let late = Late::new(Refusal::new()).await;
    let asked = Instant::now();
    let answer = late.ask(Request::post("/"), Does::Stalls).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let waited = asked.elapsed();
    assert!((1_000..1_010).contains(&waited.as_millis()), "{waited:?}");
    let answer = late.ask(Request::post("/"), Does::Fails).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "a body that fails has ended");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_the_client_holds_back_is_not_asked_for() {
    let late = Late::new(Refusal::new()).await;
    let asked = Instant::now();
    let request = Request::put("/").header("expect", "100-continue");
    let answer = late.ask(request, Does::Stalls).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_in_flight_until_it_has_its_answer() {
    let late = Late::new(Refusal::new()).await;
    let mut answer = tokio_test::task::spawn(late.ask(Request::post("/x"), Does::Stalls));
    tokio_test::assert_pending!(answer.poll());
    assert_eq!(late.layer.in_flight(), 1);
    drop(answer);
    assert_eq!(late.layer.in_flight(), 0);
    let answer = late.ask(Request::post("/x"), Does::Ends).await;
    assert_eq!(late.layer.in_flight(), 1);
    drop(answer);
    assert_eq!(late.layer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_the_lame_duck_all_are_served() {
    let life = settings().lame_duck_period(Duration::from_secs(1)).build_local().unwrap();
    let handle = life.handle();
    let layer = DrainLayer::new(&handle).refuse_late(Refusal::new());
    tokio::spawn(life.run());
    handle.shutdown("test");
    handle.lame_duck().await;
    assert_eq!(handle.phase(), Phase::LameDuck);
    let mut service = layer.layer(tower::service_fn(|_: Request<String>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("served")))
    }));
    let answer = service.call(Request::new(String::new())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "connection"), Some("close"));
}

/// Axum's own server as a component, under the layer.
struct Axum {
    addr: SocketAddr,
    /// Its server has read from its one client.
    read: Arc<Notify>,
    handle: Handle,
    run: tokio::task::JoinHandle<Report>,
}

impl Axum {
    async fn start(app: Router, adjust: fn(DrainLayer) -> DrainLayer) -> Self {
        Self::start_with(settings(), app, adjust).await
    }

    async fn start_with(
        settings: Builder,
        app: Router,
        adjust: fn(DrainLayer) -> DrainLayer,
    ) -> Self {
        let mut life = settings.build_local().unwrap();
        let handle = life.handle();
        let app = app.layer(adjust(DrainLayer::new(&handle)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let read = Arc::new(Notify::new());
        let listener = Telling { listener, read: Arc::clone(&read) };
        let stop = handle.draining();
        life.spawn(
            "axum",
            async move { axum::serve(listener, app).with_graceful_shutdown(stop).await },
        );
        let run = tokio::spawn(async move { life.run().await.unwrap() });
        limited(handle.reached(Phase::Running)).await;
        Self { addr, read, handle, run }
    }

    /// A fresh connection on which half a head was read: the only one that axum's drain leaves
    /// alone though no request is in flight on it.
    async fn half_a_head(&self, half: &str) -> Wire {
        let mut wire = Wire::over(TcpStream::connect(self.addr).await.unwrap());
        wire.send(half).await;
        // On this one thread axum has seen all of it before we hear of it.
        limited(self.read.notified()).await;
        wire
    }

    async fn drain(&self) {
        self.handle.shutdown("test");
        limited(self.handle.draining()).await;
    }

    async fn report(self) -> Report {
        limited(self.run).await.unwrap()
    }
}

/// A listener of axum's whose connections tell that they were read from.
struct Telling {
    listener: TcpListener,
    read: Arc<Notify>,
}

impl axum::serve::Listener for Telling {
    type Io = Told;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Told, SocketAddr) {
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Told { stream, read: Arc::clone(&self.read) }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Told {
    stream: TcpStream,
    read: Arc<Notify>,
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.read.notify_one();
        }
        polled
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn app() -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/upload", post(|body: Bytes| async move { body.len().to_string() }))
}

#[tokio::test]
async fn under_axum_a_late_upload_gets_its_whole_answer_and_no_reset() {
    let axum = Axum::start(app(), |layer| layer.refuse_late(Refusal::new())).await;
    let size = 200 * 1024;
    let head = format!("POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n");
    let mut wire = axum.half_a_head(&head).await;
    axum.drain().await;
    wire.send("\r\n").await;
    for _ in 0..4 {
        wire.send(&"x".repeat(size / 4)).await;
        // Sleeps: a client's network; an answer at once would meet what is still to come.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    for line in ["retry-after: 5\r\n", "connection: close\r\n", "content-length: 0\r\n"] {
        assert!(answer.contains(line), "{answer}");
    }
    assert_eq!(axum.report().await.exit_code(), 0);
}

#[tokio::test]
async fn under_axum_probes_are_served_late_and_so_is_all_where_nothing_is_refused() {
    let axum = Axum::start(app(), |layer| layer.refuse_late(Refusal::new())).await;
    let mut wire = axum.half_a_head("GET /livez HTTP/1.1\r\nhost: x\r\n").await;
    axum.drain().await;
    wire.send("\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert_eq!(axum.report().await.exit_code(), 0);

    let axum = Axum::start(app(), |layer| layer).await;
    let head = "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n";
    let mut wire = axum.half_a_head(head).await;
    axum.drain().await;
    wire.send("\r\nbody").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('4'), "{answer}");
    assert_eq!(axum.report().await.exit_code(), 0);
}

/// Axum waits for such a client for ever; the lifecycle does not.
#[tokio::test]
async fn a_client_that_hangs_under_axum_is_bounded_by_the_deadline_and_the_report_says_so() {
    let axum = Axum::start_with(wide_window(), app(), |layer| layer).await;
    let wire = axum.half_a_head("GET / HTTP/1.1\r\nhost: x\r\n").await;
    let asked = Instant::now();
    hard_stop(&axum.handle).await;
    let report = axum.report().await;
    assert!(asked.elapsed() < Duration::from_secs(40), "within the grace: {:?}", asked.elapsed());
    assert_eq!(report.exit_code(), 3);
    let cut = report.cuts().last().unwrap();
    assert_eq!(cut.phase, Phase::Cancelling);
    assert_eq!(cut.blockers[0].name, "axum", "{report}");
    assert!(report.to_string().contains("component axum aborted: out of time"), "{report}");
    drop(wire);
}

/// `serve` never refuses what comes on a connection that it holds.
#[tokio::test]
async fn under_serve_nothing_is_refused() {
    let server =
        Server::start(|handle| app().layer(DrainLayer::new(&handle).refuse_late(Refusal::new())))
            .await;
    let mut wire = server.connect().await;
    wire.send("POST /upload HTTP/1.1\r\nhost: x\r\n").await;
    // Sleeps: the server gives no sign of having read half a head.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop();
    limited(server.handle.draining()).await;
    wire.send("content-length: 4\r\n\r\nbody").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('4'), "{answer}");
    assert_eq!(server.report().await.exit_code(), 0);
}
