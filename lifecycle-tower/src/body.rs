//! The response body: being in flight lasts until it ends, fails or is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use lifecycle::InFlight;

use crate::stream::StreamEnd;

pin_project_lite::pin_project! {
    /// A response body that keeps its request in flight, and that may end at the drain
    /// ([`StreamPolicy`](crate::StreamPolicy)).
    pub struct DrainBody<B> {
        #[pin]
        inner: B,
        guard: Option<InFlight>,
        end: Option<StreamEnd>,
        ended: bool,
    }
}

impl<B> DrainBody<B> {
    pub(crate) fn new(inner: B, guard: Option<InFlight>, end: Option<StreamEnd>) -> Self {
        Self { inner, guard, end, ended: false }
    }

    pub(crate) fn uncounted(inner: B) -> Self {
        Self::new(inner, None, None)
    }
}

impl<B: Body> Body for DrainBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        // The end is looked at first, so that a frame already made is never thrown away.
        let frame =
            if ends_now(this.end, cx) { Poll::Ready(None) } else { this.inner.poll_frame(cx) };
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            *this.ended = true;
            *this.guard = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // One that may end early has no length to declare.
        if self.end.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

pub(crate) fn ends_now(end: &mut Option<StreamEnd>, cx: &mut Context<'_>) -> bool {
    end.as_mut().is_some_and(|end| end.poll(cx).is_ready())
}

impl<B> fmt::Debug for DrainBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainBody")
            .field("in_flight", &self.guard.is_some())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
