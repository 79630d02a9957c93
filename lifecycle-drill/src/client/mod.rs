//! The clients that scenarios play: raw HTTP/1 ([`Wire`]), HTTP/2, WebSocket, and raw bytes.
//!
//! None of them retries: one request, one [`Fate`].

mod ask;
mod asked;
mod dial;
mod fate;
mod frames;
mod h2c;
mod head;
mod http1;
mod wire;
mod ws;

pub(crate) use ask::ask;
pub(crate) use dial::{Alpn, Peer, Tls};
pub use fate::{Fate, WireError};
pub(crate) use frames::{Scan, raw};
pub(crate) use h2c::{Answering, H2c};
pub(crate) use head::Head;
pub use http1::Response;
pub(crate) use http1::{Framing, Reader};
pub(crate) use wire::Hangup;
pub use wire::Wire;
pub(crate) use ws::{Ws, WsEnd};
