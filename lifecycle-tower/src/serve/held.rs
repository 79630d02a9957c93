//! The response body under `serve`: in flight until its last byte is with the socket.
//!
//! A body that has ended says nothing of what the server still keeps in its buffers. On
//! HTTP/2 every piece of data therefore holds the request's guard; on HTTP/1 the
//! connection's task watches its one write buffer (`state`).

use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::end::{BodyEnd, Next, poll_next};
use super::guard::RequestGuard;

/// Keeps a request in flight.
pub(crate) enum Hold {
    /// Until the body ends.
    Body { guard: RequestGuard },
    /// Until the body and the last data of it were dropped.
    Data(Arc<RequestGuard>),
}

pin_project_lite::pin_project! {
    pub(crate) struct HeldBody<B>
    where
        B: Body,
    {
        #[pin]
        inner: Option<B>,
        hold: Option<Hold>,
        // Boxed: it is rare, and larger than all the others.
        end: Option<Box<BodyEnd>>,
    }

    impl<B> PinnedDrop for HeldBody<B>
    where
        B: Body,
    {
        fn drop(this: Pin<&mut Self>) {
            // On HTTP/2 the server drops it behind giving its end to the protocol, or in its midst.
            if let Some(Hold::Data(guard)) = &this.hold
                && this.is_end_stream()
            {
                guard.set_ended();
            }
        }
    }
}

/// Data that keeps its request in flight.
pub(crate) struct Held<D: Buf> {
    data: D,
    hold: Option<Arc<RequestGuard>>,
}

impl<D: Buf> Drop for Held<D> {
    fn drop(&mut self) {
        let Some(guard) = self.hold.take() else { return };
        if self.data.has_remaining() {
            // Others may hold it longer: a body that is dropped after it.
            guard.set_discarded();
        } else if let Some(guard) = Arc::into_inner(guard) {
            guard.end_in_buffer();
        }
    }
}

impl<B: Body> HeldBody<B> {
    pub(crate) fn new(inner: B, hold: Option<Hold>, end: Option<BodyEnd>) -> Self {
        Self { inner: Some(inner), hold, end: end.map(Box::new) }
    }

    /// For an answer that is not the application's, in flight until it is on its way.
    pub(crate) fn empty(hold: Option<Hold>) -> Self {
        Self { inner: None, hold, end: None }
    }
}

impl<B: Body> Body for HeldBody<B> {
    type Data = Held<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = match poll_next(inner, this.end, cx) {
            Next::Frame(frame) => frame,
            Next::End(trailers) => {
                if let Some(Hold::Body { guard }) = this.hold {
                    guard.end_stream();
                }
                if let Some(trailers) = trailers {
                    // In flight until the server has taken them and drops the body.
                    this.inner.set(None);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Poll::Ready(None)
            }
        };
        match frame {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_trailers() {
                    // Nothing comes after them, and nobody asks for it.
                    this.inner.set(None);
                }
                let hold = match this.hold {
                    Some(Hold::Data(guard)) => Some(Arc::clone(guard)),
                    _ => None,
                };
                Poll::Ready(Some(Ok(frame.map_data(|data| Held { data, hold }))))
            }
            Poll::Ready(ended) => {
                // What streams is freed here, not when the connection gets round to it.
                this.inner.set(None);
                // On HTTP/2 the protocol is given the end only now, and drops the body then.
                if let Some(Hold::Body { .. }) = this.hold {
                    *this.hold = None;
                }
                Poll::Ready(ended.and_then(Result::err).map(Err))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            None => SizeHint::with_exact(0),
            // One that may end early has no length to declare.
            Some(_) if self.end.is_some() => SizeHint::default(),
            Some(inner) => inner.size_hint(),
        }
    }
}

impl<D: Buf> Buf for Held<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(dst)
    }

    fn advance(&mut self, cnt: usize) {
        self.data.advance(cnt);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.data.copy_to_bytes(len)
    }
}

impl<B: Body> fmt::Debug for HeldBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBody").field("in_flight", &self.hold.is_some()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::serve::guard::HeldBy;
    use crate::serve::state::ConnState;

    /// The next frame of a body that has one.
    async fn next<B>(body: Pin<&mut HeldBody<B>>) -> Frame<Held<B::Data>>
    where
        B: Body<Error: fmt::Debug>,
    {
        let mut body = body;
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        frame.expect("one more").expect("does not fail")
    }

    fn http2(conn: &Arc<ConnState>) -> Option<Hold> {
        conn.http2_head();
        let guard = conn.common().requests.enter_unnamed().expect("open");
        Some(Hold::Data(Arc::new(RequestGuard::new(guard, Arc::clone(conn), HeldBy::Data))))
    }

    #[tokio::test]
    async fn trailers_end_a_body_that_does_not_say_so_itself() {
        let conn = Arc::new(ConnState::of_nobody());
        let inner =
            Full::<Bytes>::from("hello").with_trailers(async { Some(Ok(HeaderMap::new())) });
        let mut body = Box::pin(HeldBody::new(inner, http2(&conn), None));
        let Ok(mut data) = next(body.as_mut()).await.into_data() else { panic!("data first") };
        data.advance(5);
        drop(data);
        assert!(!body.is_end_stream() && next(body.as_mut()).await.is_trailers());
        drop(body);
        assert!(conn.take_tail(), "with the protocol, not with the socket");
        assert_eq!(conn.flights().count(), 0);
    }

    #[tokio::test]
    async fn nothing_is_owed_of_data_thrown_away_before_its_body_is() {
        let conn = Arc::new(ConnState::of_nobody());
        let mut body = Box::pin(HeldBody::new(Full::<Bytes>::from("hello"), http2(&conn), None));
        // As the server drops them at a reset while it waits for a window.
        drop(next(body.as_mut()).await);
        assert!(body.is_end_stream());
        drop(body);
        assert!(!conn.take_tail() && !conn.take_buffered());
        assert_eq!(conn.flights().count(), 0);
    }
}
