//! A well-behaved HTTP/2 client that remembers every GOAWAY.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, client::ResponseFuture, client::SendRequest};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
    time::timeout,
};

use super::{
    dial::{Alpn, Peer, Stream},
    fate::{Fate, WireError},
    frames::{Scan, Seen},
    head::Head,
};
use crate::events::{Pending, Trace, Tracer};

/// One HTTP/2 connection. Its task ends with it.
#[derive(Debug)]
pub(crate) struct H2c {
    sender: SendRequest<Bytes>,
    scan: Arc<Mutex<Scan>>,
    connection: JoinHandle<Result<(), h2::Error>>,
    scheme: &'static str,
    head: Arc<Head>,
    tracer: Option<Tracer>,
    _trace: Option<Trace>,
    limit: Duration,
}

/// A request that has been sent.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: u32,
    response: ResponseFuture,
    pending: Option<Pending>,
}

/// A response whose head has come.
#[derive(Debug)]
pub(crate) struct Answering {
    id: u32,
    status: u16,
    #[cfg_attr(not(feature = "rollout"), allow(dead_code, reason = "only a rollout reads them"))]
    headers: http::HeaderMap,
    body: RecvStream,
    pending: Option<Pending>,
}

impl H2c {
    pub(crate) async fn connect(peer: &Peer, limit: Duration) -> Result<Self, WireError> {
        let stream = peer.dial(Alpn::Http2, limit).await?;
        let scan = Arc::new(Mutex::new(Scan::default()));
        let sniffed = Sniffed { inner: stream, scan: Arc::clone(&scan) };
        // Only the preface has been sent if this fails: no request.
        let (sender, connection) = timeout(limit, h2::client::handshake(sniffed))
            .await
            .map_err(|_| WireError::new(Fate::ConnectTimedOut))?
            .map_err(|error| WireError::caused(Fate::ResetInConnect, error))?;
        let connection = tokio::spawn(connection);
        let tracer = peer.tracer.clone();
        let _trace = tracer.as_ref().map(Tracer::connection);
        Ok(Self {
            sender,
            scan,
            connection,
            scheme: peer.scheme(),
            head: Arc::clone(&peer.head),
            tracer,
            _trace,
            limit,
        })
    }

    /// Sends a GET.
    pub(crate) async fn ask(&self, path: &str) -> Result<Asked, WireError> {
        let request = self.head.get(self.scheme, path);
        let request = request.map_err(|error| WireError::caused(Fate::NotSent, error))?;
        self.send(request, Bytes::new()).await
    }

    /// Sends a request; an empty body is none.
    pub(crate) async fn send(
        &self,
        request: http::Request<()>,
        body: Bytes,
    ) -> Result<Asked, WireError> {
        let not_sent = |error| WireError::caused(Fate::NotSent, error);
        let ready = timeout(self.limit, self.sender.clone().ready());
        let mut sender =
            ready.await.map_err(|_| WireError::new(Fate::TimedOut))?.map_err(not_sent)?;
        let pending = self.tracer.as_ref().map(|tracer| {
            let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            tracer.request(format!("{} {path}", request.method()))
        });
        let sent = sender.send_request(request, body.is_empty()).map_err(not_sent);
        let (response, mut stream) = match sent {
            Ok(sent) => sent,
            Err(error) => return Err(ended(pending, error)),
        };
        let id = response.stream_id().as_u32();
        if !body.is_empty() {
            // Fails when the stream has ended meanwhile: the response says why.
            let _ended = stream.send_data(body, true);
        }
        Ok(Asked { id, response, pending })
    }

    /// Waits for the head of the response.
    pub(crate) async fn head(&self, asked: Asked) -> Result<Answering, WireError> {
        let Asked { id, response, pending } = asked;
        match timeout(self.limit, response).await {
            Err(_) => Err(ended(pending, WireError::new(Fate::TimedOut))),
            Ok(Err(error)) => Err(ended(pending, self.failed(id, error, false))),
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                let status = head.status.as_u16();
                Ok(Answering { id, status, headers: head.headers, body, pending })
            }
        }
    }

    /// Reads one piece of the body; `None` at its proper end.
    pub(crate) async fn data(&self, answering: &mut Answering) -> Result<Option<usize>, WireError> {
        match timeout(self.limit, answering.body.data()).await {
            Err(_) => Err(ended(answering.pending.take(), WireError::new(Fate::TimedOut))),
            Ok(None) => {
                if let Some(pending) = answering.pending.take() {
                    pending.end(Fate::Answered { status: answering.status, close: false });
                }
                Ok(None)
            }
            Ok(Some(Err(error))) => {
                let error = self.failed(answering.id, error, true);
                Err(ended(answering.pending.take(), error))
            }
            Ok(Some(Ok(bytes))) => {
                // Fails only when the stream has ended meanwhile: nothing to release then.
                let _ended = answering.body.flow_control().release_capacity(bytes.len());
                Ok(Some(bytes.len()))
            }
        }
    }

    /// Reads the whole response to a request.
    pub(crate) async fn answer(&self, asked: Asked) -> Result<Fate, WireError> {
        let mut answering = self.head(asked).await?;
        while self.data(&mut answering).await?.is_some() {}
        Ok(Fate::Answered { status: answering.status, close: false })
    }

    /// A GET and its whole response.
    pub(crate) async fn get(&self, path: &str) -> Result<Fate, WireError> {
        let asked = self.ask(path).await?;
        self.answer(asked).await
    }

    /// What frames have come.
    pub(crate) fn seen(&self) -> Seen {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner).seen().clone()
    }

    pub(crate) fn told_to_go(&self) -> bool {
        !self.seen().goaways.is_empty()
    }

    /// Whether the connection is over.
    #[cfg(feature = "rollout")]
    pub(crate) fn has_ended(&self) -> bool {
        self.connection.is_finished()
    }

    /// Waits for the end of the connection; `false` when it is still open after `limit`.
    pub(crate) async fn closed(&mut self, limit: Duration) -> bool {
        timeout(limit, &mut self.connection).await.is_ok()
    }

    /// The fate of a stream that failed: was it above the last id of the last GOAWAY?
    fn failed(&self, id: u32, error: h2::Error, began: bool) -> WireError {
        let above = self.seen().goaways.last().is_some_and(|last| id > *last);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let fate = match (began, error.is_io()) {
            _ if above || refused => Fate::NotProcessed,
            (true, _) => Fate::Truncated,
            (false, true) => Fate::ResetAfterSent,
            (false, false) => Fate::EofBeforeResponse,
        };
        WireError::caused(fate, error)
    }
}

impl Drop for H2c {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Answering {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether there is a header of that name.
    #[cfg(feature = "rollout")]
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }
}

/// The error, its fate written down.
fn ended(pending: Option<Pending>, error: WireError) -> WireError {
    if let Some(pending) = pending {
        pending.end(error.fate);
    }
    error
}

/// A stream whose incoming bytes are looked at on their way.
#[derive(Debug)]
struct Sniffed {
    inner: Stream,
    scan: Arc<Mutex<Scan>>,
}

impl AsyncRead for Sniffed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, into))?;
        let new = into.filled().get(before..).unwrap_or_default();
        self.scan.lock().unwrap_or_else(PoisonError::into_inner).push(new);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers `answered` streams and then says goodbye.
    async fn server(answered: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            for _ in 0..answered {
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                respond.send_response(http::Response::new(()), true).unwrap();
            }
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        });
        address
    }

    #[tokio::test]
    async fn remembers_the_goaways_and_sees_the_end() {
        let limit = Duration::from_secs(5);
        let mut client = H2c::connect(&server(2).await.into(), limit).await.unwrap();
        for _ in 0..2 {
            let fate = client.get("/").await.unwrap();
            assert_eq!(fate, Fate::Answered { status: 200, close: false });
        }
        assert!(client.closed(limit).await);
        // Idle when the first comes, our side closes before the second, which tells the true id.
        assert_eq!(client.seen().goaways.first(), Some(&0x7fff_ffff));
        assert!(client.told_to_go());
        assert_eq!(client.get("/").await.unwrap_err().fate, Fate::NotSent);
    }
}
