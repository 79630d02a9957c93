//! The response body: being in flight lasts until it ends, fails or is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use lifecycle::InFlight;

use crate::stream::StreamEnd;

pin_project_lite::pin_project! {
    /// A response body that keeps its request in flight, and that may end at the drain
    /// ([`StreamPolicy`](crate::StreamPolicy)). That of a refused request is empty.
    pub struct DrainBody<B> {
        // None once it has ended, so that what streams is freed at its end.
        #[pin]
        inner: Option<B>,
        guard: Option<InFlight>,
        // Few bodies have one; boxed, so that the others are not moved about with it.
        end: Option<Box<StreamEnd>>,
    }
}

impl<B> DrainBody<B> {
    #[inline]
    pub(crate) fn new(inner: B, guard: Option<InFlight>, end: Option<Box<StreamEnd>>) -> Self {
        Self { inner: Some(inner), guard, end }
    }

    /// Of an answer that is ours.
    pub(crate) fn empty(guard: Option<InFlight>) -> Self {
        Self { inner: None, guard, end: None }
    }
}

impl<B: Body> Body for DrainBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            *this.guard = None;
            return Poll::Ready(None);
        };
        // The end is looked at first, so that a frame already made is never thrown away.
        let ends_now = match this.end {
            Some(end) => end.poll(cx).map(|()| end.take_trailers()),
            None => Poll::Pending,
        };
        let frame = match ends_now {
            Poll::Pending => inner.poll_frame(cx),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(trailers)) => {
                // In flight until the server has taken them.
                this.inner.set(None);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        };
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            this.inner.set(None);
            *this.guard = None;
        }
        frame
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

impl<B> fmt::Debug for DrainBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainBody")
            .field("in_flight", &self.guard.is_some())
            .field("ended", &self.inner.is_none())
            .finish_non_exhaustive()
    }
}
