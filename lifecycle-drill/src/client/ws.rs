//! A WebSocket client: sends, reads, and tells how it was closed.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use super::{
    dial::{Alpn, Peer, Stream},
    fate::{Fate, WireError},
};
use crate::events::Pending;

/// One WebSocket connection.
#[derive(Debug)]
pub(crate) struct Ws {
    socket: WebSocketStream<Stream>,
    limit: Duration,
    pending: Option<Pending>,
}

/// How a WebSocket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WsEnd {
    /// With a close frame of this code; 1005 stands for a frame without a code.
    Closed(u16),
    /// Without a close frame.
    Torn,
}

impl Ws {
    pub(crate) async fn connect(
        peer: &Peer,
        path: &str,
        limit: Duration,
    ) -> Result<Self, WireError> {
        let connect = async {
            let stream = peer.dial(Alpn::Http1, limit).await?;
            // TLS, where it is wanted, is beneath: the URL tells only the host.
            let ask = peer.head.get("ws", path);
            let ask = ask.map_err(|error| WireError::caused(Fate::NotSent, error))?;
            let (parts, ()) = ask.into_parts();
            let mut ask = parts.uri.into_client_request().map_err(failed)?;
            ask.headers_mut().extend(parts.headers);
            // Boxed: the handshake's future is large.
            let (socket, _) = Box::pin(client_async(ask, stream)).await.map_err(failed)?;
            let tracer = peer.tracer.as_ref();
            let pending = tracer.map(|tracer| tracer.request(format!("WebSocket {path}")));
            Ok(Self { socket, limit, pending })
        };
        timeout(limit, connect).await.map_err(|_| WireError::new(Fate::TimedOut))?
    }

    /// Sends a text and waits for it to come back.
    pub(crate) async fn echo(&mut self, text: &str) -> Result<(), WireError> {
        let talk = async {
            self.socket.send(Message::text(text)).await.map_err(failed)?;
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(back))) if back.as_str() == text => return Ok(()),
                    Some(Ok(Message::Close(_))) | None => {
                        return Err(WireError::new(Fate::EofBeforeResponse));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed(error)),
                }
            }
        };
        timeout(self.limit, talk).await.map_err(|_| WireError::new(Fate::TimedOut))?
    }

    /// Listens (and answers the close handshake) until it ends; `None` if it does not.
    pub(crate) async fn end(&mut self, limit: Duration) -> Option<WsEnd> {
        let listen = async {
            let mut end = WsEnd::Torn;
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => {
                        end = WsEnd::Closed(frame.map_or(1005, |frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return end,
                }
            }
        };
        let end = timeout(limit, listen).await.ok();
        if let (Some(end), Some(pending)) = (end, self.pending.take()) {
            pending.end(match end {
                WsEnd::Closed(_) => Fate::Answered { status: 101, close: true },
                WsEnd::Torn => Fate::Truncated,
            });
        }
        end
    }
}

fn failed(error: Error) -> WireError {
    let fate = match &error {
        Error::Io(_) => Fate::ResetAfterSent,
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => {
            Fate::EofBeforeResponse
        }
        _ => Fate::Garbled,
    };
    WireError::caused(fate, error)
}
