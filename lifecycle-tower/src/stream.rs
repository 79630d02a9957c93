//! What becomes of a response that would last for ever, and the token for handlers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, header};
use lifecycle::{Handle, Phase, Reached};
use tower_layer::Layer;

use crate::chance::draw;

/// What becomes of a streaming response at the drain.
///
/// Server-sent events end at the drain unless told otherwise, everything else is let
/// finish. Set it per route, as a layer or as an extension of the response:
///
/// ```
/// use http::Response;
/// use lifecycle_tower::StreamPolicy;
///
/// let mut response = Response::new("...");
/// response.extensions_mut().insert(StreamPolicy::LetFinish);
/// ```
///
/// Ending means a clean end of the body (the final chunk on HTTP/1, END_STREAM on HTTP/2),
/// at the boundary of a frame; of a gRPC stream, the status UNAVAILABLE in its
/// trailers. A response that has declared its length is always let
/// finish, since ending it early would corrupt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamPolicy {
    /// Ends the body when the drain begins.
    EndAtDrain,
    /// Ends each body at a moment of its own within this time after the drain begins, so
    /// that clients do not all reconnect at once.
    EndWithin(Duration),
    /// Lets the body finish; the hard stop cuts it (a gRPC stream by UNAVAILABLE).
    LetFinish,
}

/// A view of the shutdown for handlers: in the extensions of every request under
/// [`serve`](crate::serve()), and under [`DrainLayer::with_token`](crate::DrainLayer::with_token).
///
/// A handler that holds a WebSocket waits on [`draining`](Self::draining) beside its
/// socket, says goodbye and returns; one that works for long may stop at
/// [`cancelled`](Self::cancelled). The socket itself returns an error at the hard stop; a
/// tunnel in an HTTP/2 stream at the end of the cancel window, with its connection.
///
/// # Examples
/// ```
/// use http::Request;
/// use lifecycle_tower::DrainToken;
///
/// async fn handler<B>(request: Request<B>) {
///     if let Some(token) = request.extensions().get::<DrainToken>().cloned() {
///         token.draining().await; // then close with 1001
///     }
/// }
/// # let _ = handler::<()>;
/// ```
#[derive(Clone)]
pub struct DrainToken {
    handle: Arc<Handle>,
}

/// A service that puts a [`StreamPolicy`] on its responses; made by the layer.
#[derive(Clone, Debug)]
pub struct WithStreamPolicy<S> {
    inner: S,
    policy: StreamPolicy,
}

pin_project_lite::pin_project! {
    /// The response future of [`WithStreamPolicy`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct PolicyFuture<F> {
        #[pin]
        inner: F,
        policy: StreamPolicy,
    }
}

impl DrainToken {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Resolves when the drain begins: come to an end.
    pub fn draining(&self) -> Reached {
        self.handle.draining()
    }

    /// Resolves at the hard stop: leave within the cancel window or be dropped.
    pub fn cancelled(&self) -> Reached {
        self.handle.cancelled()
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.handle.phase() >= Phase::Draining
    }

    /// Time until the hard stop; `None` before the cause of a shutdown.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.handle.time_left()
    }
}

impl fmt::Debug for DrainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainToken").field("is_draining", &self.is_draining()).finish()
    }
}

impl<S> Layer<S> for StreamPolicy {
    type Service = WithStreamPolicy<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithStreamPolicy { inner, policy: *self }
    }
}

impl<S, R, B> tower_service::Service<R> for WithStreamPolicy<S>
where
    S: tower_service::Service<R, Response = http::Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PolicyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        PolicyFuture { inner: self.inner.call(request), policy: self.policy }
    }
}

impl<F, B, E> Future for PolicyFuture<F>
where
    F: Future<Output = Result<http::Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(cx).map_ok(|mut response| {
            response.extensions_mut().insert(*this.policy);
            response
        })
    }
}

/// Ends one body at the drain: the wait, armed when the body is first polled.
pub(crate) struct StreamEnd {
    draining: Option<Reached>,
    spread: Duration,
    trailers: Option<HeaderMap>,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StreamEnd {
    /// The end of a body with these headers and that policy, if it is to be ended: never one
    /// of a known length, whether its header is there yet or is the server's to write.
    #[cfg(any(feature = "serve", test))]
    pub(crate) fn of(
        headers: &HeaderMap,
        body: &impl http_body::Body,
        policy: Option<StreamPolicy>,
        handle: &Handle,
    ) -> Option<Self> {
        let spread = Self::spread_of(headers, body, policy)?;
        Some(Self::new(handle.draining(), spread))
    }

    pub(crate) fn new(draining: Reached, spread: Duration) -> Self {
        Self { draining: Some(draining), spread, trailers: None, wait: None }
    }

    /// What the body ends with: clients of gRPC take an end without a status for an error.
    pub(crate) fn with_trailers(self, trailers: Option<HeaderMap>) -> Self {
        Self { trailers, ..self }
    }

    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Within which time after the drain begins such a body is to be ended, if it is.
    #[inline]
    pub(crate) fn spread_of(
        headers: &HeaderMap,
        body: &impl http_body::Body,
        policy: Option<StreamPolicy>,
    ) -> Option<Duration> {
        // First what nearly every body has: a length, which a server would have declared.
        if body.size_hint().exact().is_some() {
            return None;
        }
        let spread = match policy {
            Some(StreamPolicy::LetFinish) => return None,
            Some(StreamPolicy::EndAtDrain) => Duration::ZERO,
            Some(StreamPolicy::EndWithin(spread)) => spread,
            None if is_event_stream(headers) => Duration::ZERO,
            None => return None,
        };
        (!headers.contains_key(header::CONTENT_LENGTH)).then_some(spread)
    }

    /// Ready when the body is to end now; otherwise the task is woken then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (draining, spread) = (&mut self.draining, self.spread);
        let wait = self.wait.get_or_insert_with(|| {
            let draining = draining.take();
            Box::pin(async move {
                if let Some(draining) = draining {
                    draining.await;
                }
                if !spread.is_zero() {
                    wait_for(share_of(spread)).await;
                }
            })
        });
        wait.as_mut().poll(cx)
    }
}

impl fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEnd").field("spread", &self.spread).finish_non_exhaustive()
    }
}

async fn wait_for(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A share of `spread` that differs from body to body.
pub(crate) fn share_of(spread: Duration) -> Duration {
    spread.mul_f64(draw())
}

#[inline]
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    struct Endless;

    impl http_body::Body for Endless {
        type Data = &'static [u8];
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            Poll::Pending
        }
    }

    fn headers(kind: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers
    }

    #[tokio::test]
    async fn only_event_streams_and_those_asked_to_end_at_the_drain() {
        let life = lifecycle::Lifecycle::builder().build_local().expect("defaults");
        let handle = life.handle();
        let ends = |headers: &HeaderMap, policy| {
            StreamEnd::of(headers, &Endless, policy, &handle).is_some()
        };
        let (sse, json) =
            (headers("Text/Event-Stream; charset=utf-8"), headers("application/json"));
        assert!(ends(&sse, None));
        assert!(!ends(&json, None));
        assert!(!ends(&HeaderMap::new(), None));
        assert!(!ends(&sse, Some(StreamPolicy::LetFinish)));
        assert!(ends(&json, Some(StreamPolicy::EndAtDrain)));
        assert!(ends(&json, Some(StreamPolicy::EndWithin(Duration::from_secs(1)))));
        let mut sized = json;
        sized.insert(header::CONTENT_LENGTH, HeaderValue::from_static("10"));
        assert!(!ends(&sized, Some(StreamPolicy::EndAtDrain)), "would be cut short");
        let whole = String::from("the whole answer");
        let end = StreamEnd::of(&HeaderMap::new(), &whole, Some(StreamPolicy::EndAtDrain), &handle);
        assert!(end.is_none(), "the server will declare its length");
    }

    #[test]
    fn shares_lie_within_the_spread_and_differ() {
        let spread = Duration::from_secs(2);
        let shares: Vec<_> = (0..100).map(|_| share_of(spread)).collect();
        assert!(shares.iter().all(|share| *share < spread));
        assert!(shares.iter().any(|share| *share != shares[0]));
    }
}

/// For any content type.
#[cfg(test)]
mod properties {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn an_event_stream_is_told_by_its_type_alone(
            value in prop_oneof![
                "[tT][eE]xt/[eE]vent-stream",
                "text/event-stream( ?; ?[a-z]{1,5}(=[a-z]{0,5})?| ?;| )?",
                "text/event-stream[!-~]{0,3}",
                "\\PC{0,20}",
            ],
        ) {
            let Ok(header) = HeaderValue::from_str(&value) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, header);
            let kind = value.split(';').next().unwrap_or_default();
            let expected = kind.trim().eq_ignore_ascii_case("text/event-stream");
            prop_assert_eq!(is_event_stream(&headers), expected, "{:?}", value);
        }
    }
}
