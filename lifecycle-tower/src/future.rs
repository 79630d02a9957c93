//! The response future: hands the guard on to the body.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use lifecycle::{Handle, InFlight, Stage};

use crate::body::DrainBody;
use crate::head::Asked;
use crate::stream::{StreamEnd, StreamPolicy};

pin_project_lite::pin_project! {
    /// The response future of [`DrainService`](crate::DrainService). Dropped before it is
    /// ready, the request is no longer in flight.
    #[must_use = "futures do nothing unless polled"]
    pub struct DrainFuture<F> {
        #[pin]
        inner: F,
        counted: Option<Counted>,
    }
}

struct Counted {
    handle: Handle,
    asked: Asked,
    guard: Option<InFlight>,
}

impl<F> DrainFuture<F> {
    pub(crate) fn uncounted(inner: F) -> Self {
        Self { inner, counted: None }
    }

    pub(crate) fn counted(inner: F, handle: Handle, asked: Asked, guard: Option<InFlight>) -> Self {
        Self { inner, counted: Some(Counted { handle, asked, guard }) }
    }
}

impl<F, B, E> Future for DrainFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body,
{
    type Output = Result<Response<DrainBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                *this.counted = None;
                return Poll::Ready(Err(error));
            }
        };
        let Some(Counted { handle, asked, guard }) = this.counted.take() else {
            return Poll::Ready(Ok(response.map(DrainBody::uncounted)));
        };
        let (mut head, body) = response.into_parts();
        asked.close(handle.phase(), head.status, &mut head.headers);
        if let Some(guard) = &guard {
            guard.set_stage(Stage::Sending);
        }
        let policy = head.extensions.get::<StreamPolicy>().copied();
        let end = StreamEnd::of(&head.headers, &body, policy, &handle);
        Poll::Ready(Ok(Response::from_parts(head, DrainBody::new(body, guard, end))))
    }
}

impl<F> fmt::Debug for DrainFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainFuture")
            .field("counted", &self.counted.is_some())
            .finish_non_exhaustive()
    }
}
