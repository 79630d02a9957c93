//! One raw connection that speaks HTTP/1 byte by byte.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

use super::{
    asked::Asked,
    dial::{Alpn, Peer, Stream},
    fate::{Fate, WireError},
    frames::raw,
    head::Head,
    http1::{Reader, Response},
};
use crate::events::{Trace, Tracer};

/// One HTTP/1 connection whose bytes are sent when and as we say.
///
/// Made for bad manners: half a head, a body that stalls, two requests in one packet. Never
/// connects again by itself.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    /// What came and was not read as a response yet.
    inbox: BytesMut,
    asked: Asked,
    /// The limit of each call.
    limit: Duration,
    trace: Option<Trace>,
    head: Arc<Head>,
}

/// How a connection ended, seen by one who only listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// In order: FIN.
    Eof,
    /// Torn: RST.
    Reset,
    /// Not at all in the time given.
    StillOpen,
}

impl Wire {
    /// Connects. `limit` holds for this and for each later call by itself.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing has been sent.
    /// # Errors
    /// [`WireError`] whose fate is one of those of connecting.
    pub async fn connect(address: SocketAddr, limit: Duration) -> Result<Self, WireError> {
        Self::open(&address.into(), Alpn::Http1, limit).await
    }

    /// Connects as [`connect`](Self::connect) does, with TLS if the peer wants it.
    pub(crate) async fn open(peer: &Peer, alpn: Alpn, limit: Duration) -> Result<Self, WireError> {
        let stream = peer.dial(alpn, limit).await?;
        let trace = peer.tracer.as_ref().map(Tracer::connection);
        let (inbox, asked, head) = (BytesMut::new(), Asked::default(), Arc::clone(&peer.head));
        Ok(Self { stream, inbox, asked, limit, trace, head })
    }

    /// Sends bytes as they are; none if a kept connection is seen to have ended meanwhile.
    ///
    /// # Cancel safety
    /// Not cancel safe: how much was sent is unknown; drop the connection.
    /// # Errors
    /// [`WireError`]: the connection is gone, or the peer takes no bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), WireError> {
        self.trace(|trace| trace.sends(bytes.as_ref()));
        let sent = self.send_untold(bytes.as_ref()).await;
        self.trace_failure(&sent);
        sent
    }

    async fn send_untold(&mut self, mut rest: &[u8]) -> Result<(), WireError> {
        let deadline = Instant::now() + self.limit;
        self.look()?;
        while !rest.is_empty() {
            let count = match timeout_at(deadline, self.stream.write(rest)).await {
                Ok(written) => written.map_err(|error| self.torn(error, false))?,
                Err(_) => return Err(WireError::new(Fate::TimedOut)),
            };
            let (sent, left) = rest.split_at(count);
            self.asked.push(sent);
            rest = left;
        }
        // A TLS session keeps back what the socket did not take.
        match timeout_at(deadline, self.stream.flush()).await {
            Ok(flushed) => flushed.map_err(|error| self.torn(error, false)),
            Err(_) => Err(WireError::new(Fate::TimedOut)),
        }
    }

    /// Before a request on a kept connection: whether its end has come, as a client's pool looks.
    fn look(&mut self) -> Result<(), WireError> {
        while self.asked.is_idle() {
            self.inbox.reserve(READ_SIZE);
            match self.stream.read_buf(&mut self.inbox).now_or_never() {
                None => break,
                Some(Ok(0)) => return Err(WireError::new(Fate::NotSent)),
                Some(Ok(_)) if self.inbox.len() > UNASKED_MAX => {
                    return Err(WireError::new(Fate::Garbled));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.torn(error, false)),
            }
        }
        Ok(())
    }

    /// Reads one whole response.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was read of the response is lost; drop the connection.
    /// # Errors
    /// [`WireError`]: no whole response came.
    pub async fn response(&mut self) -> Result<Response, WireError> {
        let mut reader = Reader::new();
        let deadline = Instant::now() + self.limit;
        while !self.advance(&mut reader, deadline).await? {}
        reader.into_response().ok_or_else(|| WireError::new(Fate::Garbled))
    }

    /// Sends a GET and reads the response.
    ///
    /// # Cancel safety
    /// Not cancel safe: see [`send`](Self::send) and [`response`](Self::response).
    /// # Errors
    /// [`WireError`]: no whole response came.
    pub async fn get(&mut self, path: &str) -> Result<Response, WireError> {
        self.send(self.request("GET", path, None)).await?;
        self.response().await
    }

    /// Sends a POST and reads the response **while sending**, as an answer may come early.
    ///
    /// A failure to send is not an error as long as a whole response can be read.
    ///
    /// # Cancel safety
    /// Not cancel safe: see [`send`](Self::send).
    /// # Errors
    /// [`WireError`]: no whole response came.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, WireError> {
        self.send(self.request("POST", path, Some(body.len() as u64))).await?;
        let deadline = Instant::now() + self.limit;
        let (mut reader, inbox) = (Reader::new(), &mut self.inbox);
        let unanswered = self.asked.unanswered();
        let (mut from, mut to) = tokio::io::split(&mut self.stream);
        let write = async {
            // The peer may stop reading; then the response says why, or its absence does.
            let _stopped = to.write_all(body).await.and(to.flush().await);
            std::future::pending::<()>().await;
        };
        let read = async {
            while !read_more(&mut from, inbox, &mut reader, deadline, unanswered).await? {}
            Ok(())
        };
        let done = tokio::select! {
            read = read => read,
            () = write => Ok(()),
        };
        self.trace_failure(&done);
        done?;
        self.trace(|trace| ends(trace, &reader));
        self.asked.answered();
        self.asked.body_is_over();
        reader.into_response().ok_or_else(|| WireError::new(Fate::Garbled))
    }

    /// The head of a request to this peer.
    pub(crate) fn request(&self, method: &str, path: &str, body_length: Option<u64>) -> String {
        self.head.http1(method, path, body_length)
    }

    /// The head of a GET as a frame of HTTP/2.
    pub(crate) fn request_frame(&self, stream: u32, path: &str) -> Vec<u8> {
        let scheme = match self.stream {
            Stream::Plain(_) => raw::Scheme::Http,
            Stream::Tls(_) => raw::Scheme::Https,
        };
        self.head.frame(scheme, stream, path)
    }

    /// The fate of a request, from what a call to [`get`](Self::get) and its like returned.
    #[must_use]
    pub fn fate(result: &Result<Response, WireError>) -> Fate {
        match result {
            Ok(response) => Fate::Answered { status: response.status(), close: response.closes() },
            Err(error) => error.fate,
        }
    }

    /// Reads once into `reader`; `true` when its response is whole.
    pub(crate) async fn advance(
        &mut self,
        reader: &mut Reader,
        deadline: Instant,
    ) -> Result<bool, WireError> {
        self.trace(Trace::waits);
        let was_done = reader.is_done();
        let (stream, inbox, unanswered) =
            (&mut self.stream, &mut self.inbox, self.asked.unanswered());
        let read = read_more(stream, inbox, reader, deadline, unanswered).await;
        self.trace_failure(&read);
        if matches!(read, Ok(true)) && !was_done {
            self.asked.answered();
            self.trace(|trace| ends(trace, reader));
        }
        read
    }

    /// Reads until the head is there.
    pub(crate) async fn head(&mut self, reader: &mut Reader) -> Result<(), WireError> {
        let deadline = Instant::now() + self.limit;
        while reader.so_far().is_none() {
            self.advance(reader, deadline).await?;
        }
        Ok(())
    }

    /// The whole response to what was sent, if one comes. That it is cut is not written down as a
    /// loss: it is what is waited for.
    pub(crate) async fn outcome(&mut self, limit: Duration) -> Option<Response> {
        let trace = self.trace.take();
        let usual_limit = std::mem::replace(&mut self.limit, limit);
        let response = self.response().await;
        (self.trace, self.limit) = (trace, usual_limit);
        let fate = Self::fate(&response);
        self.trace(|trace| match fate {
            Fate::Answered { .. } => trace.ends(fate),
            _ => trace.closes(),
        });
        response.ok()
    }

    /// Listens for the end of the connection; what comes meanwhile is thrown away.
    pub(crate) async fn hangup(&mut self, limit: Duration) -> Hangup {
        let ended = timeout(limit, async {
            let mut chunk = vec![0; 4096];
            loop {
                match self.stream.read(&mut chunk).await {
                    Ok(0) => return Hangup::Eof,
                    Ok(_) => {}
                    Err(_) => return Hangup::Reset,
                }
            }
        });
        let hangup = ended.await.unwrap_or(Hangup::StillOpen);
        if hangup != Hangup::StillOpen {
            self.trace(Trace::closes);
        }
        hangup
    }

    /// Reads what comes next, as it is; `None` at the end.
    pub(crate) async fn raw(&mut self) -> Result<Option<BytesMut>, WireError> {
        if self.inbox.is_empty() {
            self.inbox.reserve(READ_SIZE);
            match timeout(self.limit, self.stream.read_buf(&mut self.inbox)).await {
                Err(_) => return Err(WireError::new(Fate::TimedOut)),
                Ok(Err(error)) => return Err(self.torn(error, false)),
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => {}
            }
        }
        Ok(Some(self.inbox.split()))
    }

    fn trace(&mut self, note: impl FnOnce(&mut Trace)) {
        if let Some(trace) = &mut self.trace {
            note(trace);
        }
    }

    fn trace_failure<T>(&mut self, result: &Result<T, WireError>) {
        if let Err(error) = result {
            self.trace(|trace| {
                trace.ends(error.fate);
                if error.fate != Fate::TimedOut {
                    trace.closes();
                }
            });
        }
    }

    fn torn(&self, error: io::Error, began: bool) -> WireError {
        WireError::talking(error, self.asked.unanswered(), began)
    }
}

async fn read_more(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    inbox: &mut BytesMut,
    reader: &mut Reader,
    deadline: Instant,
    unanswered: u32,
) -> Result<bool, WireError> {
    let garbled = |error| WireError::caused(Fate::Garbled, error);
    // Bytes of a pipelined response may be here already.
    reader.feed(inbox).map_err(garbled)?;
    if reader.is_done() {
        return Ok(true);
    }
    inbox.reserve(READ_SIZE);
    let read = timeout_at(deadline, from.read_buf(inbox)).await;
    let began = reader.so_far().is_some() || !inbox.is_empty();
    match read {
        Err(_) => Err(WireError::new(Fate::TimedOut)),
        Ok(Err(error)) => Err(WireError::talking(error, unanswered, began)),
        Ok(Ok(0)) if reader.eof() => Ok(true),
        Ok(Ok(0)) if began => Err(WireError::new(Fate::Truncated)),
        Ok(Ok(0)) if unanswered == 0 => Err(WireError::new(Fate::NotSent)),
        Ok(Ok(0)) => Err(WireError::new(Fate::EofBeforeResponse)),
        Ok(Ok(_)) => {
            reader.feed(inbox).map_err(garbled)?;
            Ok(reader.is_done())
        }
    }
}

/// The response is whole.
fn ends(trace: &mut Trace, reader: &Reader) {
    if let Some(response) = reader.so_far() {
        trace.ends(Fate::Answered { status: response.status(), close: response.closes() });
    }
}

const READ_SIZE: usize = 16 * 1024;
/// What a peer may say without being asked, before it is none that speaks HTTP.
const UNASKED_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A server that takes one connection, reads once, sends these bytes and closes.
    async fn once(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut chunk = [0; 1024];
            assert!(stream.read(&mut chunk).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    async fn fate_of(answer: &'static [u8]) -> Fate {
        let mut wire = Wire::connect(once(answer).await, LIMIT).await.unwrap();
        Wire::fate(&wire.get("/").await)
    }

    #[tokio::test]
    async fn tells_the_fates_of_a_request_apart() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        assert_eq!(fate_of(whole).await, Fate::Answered { status: 200, close: true });
        assert_eq!(fate_of(b"").await, Fate::EofBeforeResponse);
        assert_eq!(fate_of(b"HTTP/1.1 200 OK\r\ncontent-le").await, Fate::Truncated);
        assert_eq!(
            fate_of(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await,
            Fate::Truncated
        );
        assert_eq!(fate_of(b"nonsense\r\n\r\n").await, Fate::Garbled);
    }

    #[tokio::test]
    async fn the_second_of_two_requests_at_once_is_lost_if_only_one_is_answered() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let mut wire = Wire::connect(once(answer).await, LIMIT).await.unwrap();
        wire.send(wire.request("GET", "/", None).repeat(2)).await.unwrap();
        assert!(wire.response().await.is_ok());
        let second = Wire::fate(&wire.response().await);
        assert_eq!(second, Fate::EofBeforeResponse);
        assert!(second.is_lost());
    }

    #[tokio::test]
    async fn a_kept_connection_that_was_closed_in_order_is_not_written_to() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let mut wire = Wire::connect(once(answer).await, LIMIT).await.unwrap();
        assert!(wire.get("/").await.is_ok());
        let Stream::Plain(stream) = &wire.stream else { panic!("no TLS here") };
        stream.readable().await.unwrap();
        assert_eq!(Wire::fate(&wire.get("/").await), Fate::NotSent);
    }

    #[tokio::test]
    async fn nobody_listening_is_refused_and_silence_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut wire = Wire::connect(address, Duration::from_millis(50)).await.unwrap();
        assert_eq!(Wire::fate(&wire.get("/").await), Fate::TimedOut);
        assert_eq!(wire.hangup(Duration::from_millis(10)).await, Hangup::StillOpen);
        drop(listener);
        let refused = Wire::connect(address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refused.fate, Fate::Refused);
    }
}
