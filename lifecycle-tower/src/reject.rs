//! The answer to a late request, for those who ask for refusals: 503 with `Retry-After`.
//!
//! Closing a connection with unread bytes resets it, and the reset takes the answer with it;
//! so the request's body is first read and thrown away, within bounds of bytes and of time.
//!
//! # Invariants
//! 1. What is thrown away is bounded in bytes and in time, and then the answer is given anyway.
//! 2. The answer is the same whatever became of the body: a body that fails is at its end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use lifecycle::{InFlight, Phase};
use tokio::time::Sleep;

use crate::body::DrainBody;
use crate::grpc;
use crate::head::Asked;
use crate::outcome;

/// How a request is refused that comes after the drain has begun; given to
/// [`DrainLayer::refuse_late`](crate::DrainLayer::refuse_late).
///
/// It is answered 503 with `Retry-After`, on HTTP/1 with `Connection: close`, and without a
/// body. A gRPC request (`content-type: application/grpc`) is answered as gRPC has it: 200,
/// `grpc-status: 14` (unavailable) in the head, and nothing after it.
///
/// Before that its body is read and thrown away: at most
/// [`discard_limit`](Self::discard_limit) bytes for at most that time, then the answer is given
/// anyway, and a client that is still sending may see a reset instead of it. Not read are the
/// bodies of gRPC requests on HTTP/2, whose streams end one by one and may last, and those that
/// the client holds back (`Expect: 100-continue`).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lifecycle_tower::Refusal;
///
/// let refusal = Refusal::new().retry_after(Duration::from_secs(1)).exempt(["/ping"]);
/// # let _ = refusal;
/// ```
#[derive(Clone, Debug)]
#[must_use = "does nothing unless given to a layer"]
pub struct Refusal {
    retry_after: Duration,
    discard_bytes: u64,
    discard_timeout: Duration,
    exempt: Arc<[String]>,
}

impl Refusal {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            retry_after: RETRY_AFTER,
            discard_bytes: DISCARD_BYTES,
            discard_timeout: DISCARD_TIMEOUT,
            exempt: PROBES.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    /// What `Retry-After` says, rounded up to whole seconds. Default 5 s: what Kubernetes' API
    /// server says with `shutdown-send-retry-after`.
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    /// How much of a request's body is read, and for how long. Default 256 KiB, as Go's
    /// `net/http` reads after a handler (`maxPostHandlerReadBytes`), and 1 s, the silence after
    /// which [`serve`](crate::serve()) takes a connection for idle. No bytes: no body is read.
    pub fn discard_limit(self, bytes: u64, timeout: Duration) -> Self {
        Self { discard_bytes: bytes, discard_timeout: timeout, ..self }
    }

    /// The paths that are served all the same, in place of the default ones: `/livez`,
    /// `/readyz`, `/startupz`, `/healthz`, `/drainz`, `/statusz`. A path stands for itself and
    /// what is below it (`/readyz` for `/readyz/postgres`).
    pub fn exempt<I>(self, paths: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let whole = |path: I::Item| {
            let path: String = path.into();
            path.trim_end_matches('/').to_owned()
        };
        Self { exempt: paths.into_iter().map(whole).collect(), ..self }
    }

    pub(crate) fn exempts(&self, path: &str) -> bool {
        let below = |exempt: &String| {
            path.strip_prefix(exempt.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.exempt.iter().any(below)
    }

    /// Refuses that request, once its body is thrown away.
    #[cold]
    #[inline(never)]
    pub(crate) fn discard<B>(&self, request: Request<B>, guard: Option<InFlight>) -> Discard<B> {
        let asked = Asked::of(&request);
        let (head, body) = request.into_parts();
        let grpc = head.headers.get(header::CONTENT_TYPE).filter(|kind| is_grpc(kind)).cloned();
        let held_back = head.headers.contains_key(header::EXPECT);
        // On HTTP/1 a stream does not end by itself: what is unread resets the connection.
        let lasts = grpc.is_some() && asked.version == Version::HTTP_2;
        let unread = lasts || held_back || self.discard_bytes == 0;
        Discard {
            body: (!unread).then_some(body),
            left: self.discard_bytes,
            timeout: self.discard_timeout,
            deadline: None,
            answer: Answer { asked, grpc, retry_after: whole_seconds(self.retry_after) },
            guard,
        }
    }
}

impl Default for Refusal {
    fn default() -> Self {
        Self::new()
    }
}

pin_project_lite::pin_project! {
    /// A request that is refused, while its body is thrown away.
    pub(crate) struct Discard<B> {
        #[pin]
        body: Option<B>,
        left: u64,
        timeout: Duration,
        // Made at the first poll that has to wait: a timer needs a runtime.
        #[pin]
        deadline: Option<Sleep>,
        answer: Answer,
        guard: Option<InFlight>,
    }
}

struct Answer {
    asked: Asked,
    /// The request's content type, where that is gRPC's.
    grpc: Option<HeaderValue>,
    retry_after: u64,
}

impl<B> Discard<B> {
    pub(crate) fn is_counted(&self) -> bool {
        self.guard.is_some()
    }
}

impl<B: Body> Discard<B> {
    /// Ready when enough of the body was thrown away.
    fn poll_discarded(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        while !body.is_end_stream() {
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
                    // A frame of nothing counts too, so that the loop ends.
                    let bytes = u64::try_from(bytes.max(1)).unwrap_or(u64::MAX);
                    match this.left.checked_sub(bytes) {
                        Some(left) => *this.left = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Pending => {
                    if this.deadline.is_none() {
                        this.deadline.set(Some(tokio::time::sleep(*this.timeout)));
                    }
                    let deadline = this.deadline.as_mut().as_pin_mut();
                    return deadline.map_or(Poll::Pending, |deadline| deadline.poll(cx));
                }
            }
        }
        Poll::Ready(())
    }

    /// The answer, when it is time for it.
    #[cold]
    pub(crate) fn poll<R, E>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<DrainBody<R>>, E>> {
        ready!(self.as_mut().poll_discarded(cx));
        let mut this = self.project();
        // What is left of it goes now, not when the connection gets round to it.
        this.body.set(None);
        this.deadline.set(None);
        outcome::refused();
        let mut response = Response::new(DrainBody::empty(this.guard.take()));
        this.answer.write(&mut response);
        Poll::Ready(Ok(response))
    }
}

impl Answer {
    fn write<B>(&self, response: &mut Response<B>) {
        if let Some(kind) = &self.grpc {
            *response.headers_mut() = grpc::unavailable(grpc::DRAIN);
            response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        } else {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(header::RETRY_AFTER, self.retry_after.into());
        }
        let status = response.status();
        self.asked.close(Phase::Draining, status, response.headers_mut());
    }
}

impl<B> fmt::Debug for Discard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discard").field("left", &self.left).finish_non_exhaustive()
    }
}

/// gRPC's own content type, with or without a codec (`application/grpc+proto`), and gRPC-Web's,
/// whose clients take a status in the head as well.
fn is_grpc(kind: &HeaderValue) -> bool {
    matches!(grpc::after_name(kind), Some(None | Some(b'+' | b';' | b'-' | b' ')))
}

/// `Retry-After` knows whole seconds; fewer than asked for would be too soon.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

const RETRY_AFTER: Duration = Duration::from_secs(5);
const DISCARD_BYTES: u64 = 256 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
const PROBES: [&str; 6] = ["/livez", "/readyz", "/startupz", "/healthz", "/drainz", "/statusz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_paths_are_exempt_and_can_be_replaced() {
        let refusal = Refusal::new();
        for (path, exempt) in [
            ("/livez", true),
            ("/readyz", true),
            ("/readyz/postgres", true),
            ("/readyzz", false),
            ("/api/livez", false),
            ("/", false),
        ] {
            assert_eq!(refusal.exempts(path), exempt, "{path}");
        }
        let own = Refusal::new().exempt(["/ping"]);
        assert!(own.exempts("/ping") && !own.exempts("/livez"));
        let slash = Refusal::new().exempt(["/api/"]);
        assert!(slash.exempts("/api") && slash.exempts("/api/x") && !slash.exempts("/apis"));
        assert!(Refusal::new().exempt(["/"]).exempts("/whatever"), "below the root is all");
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (kind, grpc) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web+proto", true),
            ("application/grpcx", false),
            ("application/json", false),
            ("application", false),
        ] {
            assert_eq!(is_grpc(&HeaderValue::from_static(kind)), grpc, "{kind}");
        }
    }

    #[test]
    fn retry_after_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(5)), 5);
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}
