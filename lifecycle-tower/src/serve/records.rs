//! The bytes beneath TLS: whether they end inside a record.
//!
//! rustls gives nothing of a record before its last byte, so a request that is half-way here
//! would look like silence.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of TLS records.
pub(crate) struct Records<T> {
    inner: T,
    place: Place,
}

/// Where in a record the bytes read so far have ended. Records have a header of five bytes, in
/// the clear, of which the last two are the length of what follows (RFC 8446, 5.1).
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Bytes of the header that have come.
    header: u8,
    /// Of the length while the header is read, then what is left of the record.
    left: usize,
}

impl Place {
    fn push(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.header == 0 && self.left > 0 {
                let now = self.left.min(bytes.len());
                self.left -= now;
                bytes = &bytes[now..];
                continue;
            }
            match self.header {
                LENGTH_FROM => self.left = usize::from(*first) << 8,
                LENGTH_TO => self.left |= usize::from(*first),
                _ => {}
            }
            self.header = (self.header + 1) % HEADER;
            bytes = rest;
        }
    }

    fn is_inside(self) -> bool {
        self.header > 0 || self.left > 0
    }
}

impl<T> Records<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, place: Place::default() }
    }

    pub(crate) fn inner(&self) -> &T {
        &self.inner
    }

    /// Whether a part of a record has come.
    pub(crate) fn is_inside(&self) -> bool {
        self.place.is_inside()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Records<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        this.place.push(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Records<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

const HEADER: u8 = 5;
const LENGTH_FROM: u8 = 3;
const LENGTH_TO: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_borders_of_records_are_outside() {
        let records =
            [&[22, 3, 1, 0, 3, 9, 9, 9][..], &[23, 3, 3, 1, 2], &[0; 258], &[21, 3, 3, 0, 0]];
        let borders: Vec<_> = records
            .iter()
            .scan(0, |sum, part| {
                *sum += part.len();
                Some(*sum)
            })
            .collect();
        let bytes = records.concat();
        for size in [1, 2, 3, 5, 7, 64, bytes.len()] {
            let (mut place, mut at) = (Place::default(), 0);
            for piece in bytes.chunks(size) {
                place.push(piece);
                at += piece.len();
                // The second and the third are one record.
                let outside = [borders[0], borders[2], borders[3]].contains(&at);
                assert_eq!(place.is_inside(), !outside, "after {at} in pieces of {size}");
            }
        }
    }
}
