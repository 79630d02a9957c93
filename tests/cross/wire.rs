//! A server under test, and clients that see what is on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lifecycle::{Builder, Handle, Lifecycle, Phase, Report};
use lifecycle_tower::{Serve, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: Handle,
    run: JoinHandle<Report>,
}

/// Grace 3 s without a lame duck: drain until 2.1 s, cancel until 2.25 s.
pub(crate) fn settings() -> Builder {
    Lifecycle::builder().grace_period(Duration::from_secs(3)).lame_duck_period(Duration::ZERO)
}

/// For what has to happen within the cancel window, which is 2 s here: drain until 34 s, for
/// which [`hard_stop`] does not wait, cancel until 36 s.
pub(crate) fn wide_window() -> Builder {
    settings().grace_period(Duration::from_secs(40))
}

/// Begins a shutdown and lets most of the drain's time pass at once: when this returns, the
/// cancel window has begun, and the clock runs as it does. For a runtime of one thread.
pub(crate) async fn hard_stop(handle: &Handle) {
    handle.shutdown("test");
    limited(handle.draining()).await;
    // Sleeps: all are told of the drain, as they would be in its time.
    tokio::time::sleep(Duration::from_millis(50)).await;
    pass(handle.time_left().expect("it drains")).await;
    limited(handle.cancelled()).await;
}

/// Lets so much time pass at once for all that is waited for here. For a runtime of one thread.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

impl Server {
    pub(crate) async fn start(app: impl FnOnce(Handle) -> Router) -> Self {
        Self::start_with(settings(), app, |serve| serve).await
    }

    pub(crate) async fn start_with(
        settings: Builder,
        app: impl FnOnce(Handle) -> Router,
        adjust: impl FnOnce(Serve<TcpListener, Router>) -> Serve<TcpListener, Router>,
    ) -> Self {
        let mut life = settings.build_local().unwrap();
        let handle = life.handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        life.spawn("http", adjust(serve(listener, app(handle.clone()))));
        let run = tokio::spawn(async move { life.run().await.unwrap() });
        limited(handle.reached(Phase::Running)).await;
        Self { addr, handle, run }
    }

    /// Waits until a request is in flight.
    pub(crate) async fn busy(&self) {
        self.busy_with(1).await;
    }

    /// Waits until so many requests are in flight.
    pub(crate) async fn busy_with(&self, requests: usize) {
        limited(async {
            while self.handle.blockers().len() < requests {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) fn stop(&self) {
        self.handle.shutdown("test");
    }

    pub(crate) async fn report(self) -> Report {
        limited(self.run).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Wire {
        Wire::over(TcpStream::connect(self.addr).await.unwrap())
    }

    pub(crate) async fn http1(&self) -> http1::SendRequest<Empty<Bytes>> {
        let io = TokioIo::new(TcpStream::connect(self.addr).await.unwrap());
        let (sender, conn) = http1::handshake(io).await.unwrap();
        tokio::spawn(conn.with_upgrades());
        sender
    }

    pub(crate) async fn http2(
        &self,
    ) -> (http2::SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>) {
        let io = TokioIo::new(TcpStream::connect(self.addr).await.unwrap());
        let (sender, conn) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        (sender, tokio::spawn(conn))
    }
}

/// A connection whose bytes are seen.
pub(crate) struct Wire<T = TcpStream> {
    pub(crate) stream: T,
    read: Vec<u8>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    pub(crate) fn over(stream: T) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads on until `text` has come.
    pub(crate) async fn expect(&mut self, text: &str) {
        let seen = |read: &[u8]| read.windows(text.len()).any(|part| part == text.as_bytes());
        while !seen(&self.read) {
            let len = limited(self.stream.read_buf(&mut self.read)).await.unwrap();
            let so_far = String::from_utf8_lossy(&self.read).into_owned();
            assert!(len > 0, "the end came before {text:?}; until then: {so_far:?}");
        }
    }

    /// Everything until a clean end.
    pub(crate) async fn rest(mut self) -> String {
        limited(self.stream.read_to_end(&mut self.read)).await.unwrap();
        String::from_utf8(self.read).unwrap()
    }
}

pub(crate) fn get(path: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

pub(crate) async fn limited<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("ends within its limit")
}
