//! A connection before its protocol is known: the handshake, if there is one, and the first
//! bytes, if they have to tell.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Extensions;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::common::Common;
use super::exec::Streams;
use super::handshake::Handshake;
use super::io::CountedIo;
use super::listener::{Listener, Negotiated};
use super::request::Requests;
use super::rule::{Limits, Protocol};
use super::state::ConnState;

/// Notes what the requests of a connection are to know of it.
pub(crate) type Attach<L> =
    dyn Fn(&<L as Listener>::Io, &<L as Listener>::Addr, &mut Extensions) + Send + Sync;

/// What a server gives to each of its connections.
pub(crate) struct Given<L: Listener, S> {
    pub(crate) app: S,
    pub(crate) common: Arc<Common>,
    pub(crate) limits: Limits,
    pub(crate) handshake_timeout: Duration,
    pub(crate) attach: Arc<[Box<Attach<L>>]>,
    pub(crate) streams: Streams,
}

pub(crate) struct Opening<L: Listener, S> {
    io: CountedIo<L>,
    peer: L::Addr,
    given: Given<L, S>,
    /// Until it is over.
    handshake: Option<Handshake>,
    first: Vec<u8>,
}

impl<L: Listener, S> Opening<L, S> {
    pub(crate) fn new(
        io: CountedIo<L>,
        peer: L::Addr,
        given: Given<L, S>,
        accepted: Instant,
    ) -> Self {
        let handshake = Some(Handshake::new(accepted, given.handshake_timeout));
        Self { io, peer, given, handshake, first: Vec::new() }
    }

    /// The handshake, as long as it is not known to be over.
    pub(crate) fn handshake(&mut self) -> Option<&mut Handshake> {
        self.handshake.as_mut()
    }

    /// Does the handshake, and reads until the first bytes tell the protocol if it has not;
    /// `None` when the peer has left.
    pub(crate) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<Option<Protocol>> {
        if self.handshake.is_some() {
            let negotiated = match ready!(self.io.poll_handshake(cx)) {
                Ok(negotiated) => negotiated,
                Err(error) => {
                    tracing::debug!(target: "lifecycle", %error, "a handshake failed");
                    return Poll::Ready(None);
                }
            };
            self.handshake = None;
            match negotiated {
                Negotiated::Http1 => return Poll::Ready(Some(Protocol::Http1)),
                Negotiated::Http2 => return Poll::Ready(Some(Protocol::Http2)),
                Negotiated::Nothing => {}
            }
        }
        loop {
            let mut bytes = [0; FIRST_READ];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.first.extend_from_slice(buf.filled()),
                _ => return Poll::Ready(None),
            }
            let known = self.first.len().min(PREFACE.len());
            if self.first[..known] != PREFACE[..known] {
                return Poll::Ready(Some(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Some(Protocol::Http2));
            }
        }
    }

    /// What hyper needs; the bytes that were read are given back.
    pub(crate) fn into_parts(self, state: &Arc<ConnState>) -> (CountedIo<L>, Requests<S>, Streams) {
        let Self { mut io, peer, given, first, .. } = self;
        // After the handshake, which may tell who the peer is.
        let mut known = Extensions::new();
        for attach in &*given.attach {
            attach(io.inner(), &peer, &mut known);
        }
        let service = Requests::new(given.app, Arc::clone(state), known);
        io.unread(&first);
        (io, service, given.streams)
    }
}

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most first requests fit, so that finding out the protocol costs no read of its own.
const FIRST_READ: usize = 1024;
