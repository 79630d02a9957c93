//! In how many pieces a response is given to its socket: a write of several pieces costs the
//! kernel more than one of the same bytes in one piece, unless they are many.

mod in_memory;

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use in_memory::InMemory;
use lifecycle::Lifecycle;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::timeout;

#[tokio::test]
async fn a_small_response_is_written_in_one_piece() {
    let writes = writes_of("hello".len()).await;
    assert!(matches!(writes[..], [Write { pieces: 1, .. }]), "{writes:?}");
}

#[tokio::test]
async fn a_large_body_is_not_copied_to_its_head() {
    let writes = writes_of(LARGE).await;
    assert!(writes[0].pieces > 1 && writes[0].len > LARGE, "{writes:?}");
}

/// What the server wrote for a response with a body of so many bytes.
async fn writes_of(len: usize) -> Vec<Write> {
    let body = Bytes::from(vec![b'x'; len]);
    let app = tower::service_fn(move |_: Request<_>| {
        let body = Full::new(body.clone());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let builder = Lifecycle::builder().probe_addr(None).lame_duck_period(Duration::ZERO);
    let mut life = builder.build_local().expect("it starts");
    let handle = life.handle();
    let (connect, connections) = mpsc::channel(1);
    life.spawn("http", lifecycle_tower::serve(InMemory(connections), app));
    let (mut client, server) = tokio::io::duplex(2 * LARGE);
    let writes = Arc::new(Mutex::new(Vec::new()));
    let server = Recorded { inner: server, writes: Arc::clone(&writes) };
    assert!(connect.send(server).await.is_ok(), "it accepts");
    let client = async move {
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is taken");
        let mut answer = Vec::new();
        while !answer.ends_with(&vec![b'x'; len]) {
            let read = client.read_buf(&mut answer).await.expect("it answers");
            assert_ne!(read, 0, "it is not cut: {}", String::from_utf8_lossy(&answer));
        }
        handle.shutdown("the test");
        answer.len()
    };
    let both = async { tokio::join!(client, life.run()) };
    let (received, report) = timeout(LIMIT, both).await.expect("it ends in time");
    assert_eq!(report.expect("it runs").exit_code(), 0);
    let writes = writes.lock().expect("no panic").clone();
    assert_eq!(writes.iter().map(|write| write.len).sum::<usize>(), received, "{writes:?}");
    writes
}

/// One call that wrote something.
#[derive(Clone, Copy, Debug)]
struct Write {
    pieces: usize,
    len: usize,
}

/// Writes down how it is written to.
struct Recorded {
    inner: DuplexStream,
    writes: Arc<Mutex<Vec<Write>>>,
}

impl Recorded {
    fn note(&self, pieces: usize, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = wrote {
            self.writes.lock().expect("no panic").push(Write { pieces, len });
        }
        wrote
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(1, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(bufs.len(), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

const LARGE: usize = 64 * 1024;
const LIMIT: Duration = Duration::from_secs(10);
