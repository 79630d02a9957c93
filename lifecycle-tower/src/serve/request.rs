//! One request under `serve`: counted from its head on, told of the drain, answered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Extensions, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use lifecycle::Stage;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

use super::end::{BodyEnd, CallEnd, HARD_STOP};
use super::exec;
use super::guard::{HeldBy, RequestGuard};
use super::held::{Held, HeldBody, Hold};
use super::state::ConnState;
use crate::grpc;
use crate::head::Asked;
use crate::outcome;
use crate::stream::DrainToken;

/// The service of one connection.
pub(crate) struct Requests<S> {
    app: S,
    conn: Arc<ConnState>,
    token: DrainToken,
    /// What every request is told of its connection; mostly nothing.
    known: Extensions,
}

pin_project_lite::pin_project! {
    /// The answer to one request.
    pub(crate) struct Answer<F> {
        #[pin]
        inner: Option<F>,
        guard: Option<RequestGuard>,
        asked: Asked,
        call: Call,
    }
}

/// What kind of request it is, and what ends it.
enum Call {
    Plain,
    /// gRPC: at the hard stop it is answered for its handler. Boxed, so that others are small.
    Grpc(Box<CallEnd>),
}

impl<S> Requests<S> {
    pub(crate) fn new(app: S, conn: Arc<ConnState>, known: Extensions) -> Self {
        let token = DrainToken::new(conn.common().handle.clone());
        Self { app, conn, token, known }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Requests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    B: http_body::Body,
{
    type Response = Response<HeldBody<B>>;
    type Error = S::Error;
    type Future = Answer<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let asked = Asked::of(&request);
        let common = self.conn.common();
        let call = if grpc::is_grpc(asked.version, request.headers()) {
            Call::Grpc(Box::new(CallEnd::new(&common.handle, None)))
        } else {
            Call::Plain
        };
        let http2 = request.version() == Version::HTTP_2;
        if http2 {
            self.conn.http2_head();
        } else {
            self.conn.http1_head(head_len(&request), request.body().size_hint().exact());
        }
        let held_by = if http2 { HeldBy::Data } else { HeldBy::Connection };
        let Ok(guard) = common.names.enter(&common.requests, &request) else {
            // Only after the hard stop: nobody would be there to answer it.
            self.conn.end_flight();
            return Answer { inner: None, guard: None, asked, call };
        };
        let guard = RequestGuard::new(guard, Arc::clone(&self.conn), held_by);
        request.extensions_mut().insert(self.token.clone());
        if !self.known.is_empty() {
            request.extensions_mut().extend(self.known.clone());
        }
        let inner = Some(self.app.clone().oneshot(request));
        Answer { inner, guard: Some(guard), asked, call }
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body,
{
    type Output = Result<Response<HeldBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            outcome::refused();
            return Poll::Ready(Ok(refused(this.call, *this.asked)));
        };
        let Poll::Ready(response) = inner.poll(cx) else {
            let Call::Grpc(end) = this.call else { return Poll::Pending };
            let message = ready!(end.poll(cx));
            // The handler is dropped here, before its client hears of it.
            this.inner.set(None);
            let guard = this.guard.take();
            let hold = guard.and_then(|guard| hold(guard, *this.asked, StatusCode::OK));
            return Poll::Ready(Ok(unavailable(message, hold)));
        };
        // The guard of one that failed goes with the future, when the protocol knows.
        let mut response = response?;
        let guard = this.guard.take();
        let status = response.status();
        let end = guard.as_ref().and_then(|guard| {
            let handle = &guard.common().handle;
            outcome::answered(|| handle.phase());
            if guard.tells_to_leave() {
                this.asked.leave(status, response.headers_mut());
            }
            BodyEnd::of(this.asked.version, &response, handle)
        });
        let hold = guard.and_then(|guard| hold(guard, *this.asked, status));
        Poll::Ready(Ok(response.map(|body| HeldBody::new(body, hold, end))))
    }
}

/// The answer to a request that came after the hard stop.
fn refused<B: http_body::Body>(call: &Call, asked: Asked) -> Response<HeldBody<B>> {
    if matches!(call, Call::Grpc(_)) {
        return unavailable(HARD_STOP, None);
    }
    let mut response = Response::new(HeldBody::empty(None));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    asked.leave(response.status(), response.headers_mut());
    response
}

/// The whole answer to a gRPC call that had none yet: what gRPC calls Trailers-Only.
fn unavailable<B: http_body::Body>(
    message: &'static str,
    hold: Option<Hold>,
) -> Response<HeldBody<B>> {
    let mut response = Response::new(HeldBody::empty(hold));
    *response.headers_mut() = grpc::unavailable(message);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::GRPC));
    response
}

/// The bytes of an HTTP/1 head as nearly every client writes it: one space after a colon,
/// none elsewhere. More or fewer cost at most a lingering close that was not needed, or, for a
/// client that sends ahead, one that was: what came along with a head is not taken for the next
/// one's beginning.
fn head_len<B>(request: &Request<B>) -> u64 {
    let uri = request.uri();
    let target = match (uri.scheme(), uri.authority(), uri.path_and_query()) {
        (None, None, Some(path)) => path.as_str().len(),
        _ => uri.to_string().len(),
    };
    let line = request.method().as_str().len() + target + " HTTP/1.1\r\n".len() + 1;
    let headers = request.headers().iter();
    let fields: usize = headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (line + fields + "\r\n".len()) as u64
}

/// Who keeps the request in flight from its response's head on.
fn hold(guard: RequestGuard, asked: Asked, status: StatusCode) -> Option<Hold> {
    let http2 = asked.version == Version::HTTP_2;
    let upgraded = asked.is_upgraded_by(status);
    guard.set_stage(if upgraded { Stage::Upgraded } else { Stage::Sending });
    match (upgraded, http2) {
        (false, false) => Some(Hold::Body { guard }),
        (false, true) => Some(Hold::Data(Arc::new(guard))),
        (true, false) => {
            guard.upgrade();
            None
        }
        (true, true) => {
            exec::hand_over(guard);
            None
        }
    }
}

impl<S> fmt::Debug for Requests<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("known", &self.known).finish_non_exhaustive()
    }
}

impl<D: bytes::Buf> fmt::Debug for Held<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_after_the_hard_stop_is_refused_in_its_own_protocol() {
        let life = lifecycle::Lifecycle::builder().build_local().expect("defaults");
        let call = Call::Grpc(Box::new(CallEnd::new(&life.handle(), None)));
        let mut request = Request::post("/t/Unary").body(()).expect("valid");
        *request.version_mut() = Version::HTTP_2;
        let answer = refused::<String>(&call, Asked::of(&request));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(answer.body().is_end_stream());
        *request.version_mut() = Version::HTTP_11;
        let answer = refused::<String>(&Call::Plain, Asked::of(&request));
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["connection"], "close");
    }

    #[test]
    fn a_head_is_as_long_as_it_reads() {
        let text = "GET /a?b=c HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n";
        let request = Request::get("/a?b=c").header("host", "x").header("accept", "*/*");
        assert_eq!(head_len(&request.body(()).expect("valid")), text.len() as u64);
        let text = "GET http://x/a HTTP/1.1\r\n\r\n";
        assert_eq!(
            head_len(&Request::get("http://x/a").body(()).expect("valid")),
            text.len() as u64
        );
    }
}
