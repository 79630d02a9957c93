//! The probes as a tower service: on the probe server, or mounted in a router of yours.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};

use super::ask::{Ask, Refusal};
use super::render::{self, Answer};
use super::status;
use crate::handle::Handle;
use crate::phase::Phase;

/// The probes as a tower service of http requests, to be mounted on a port of your own; made
/// by [`Handle::probes`].
///
/// It answers `/livez`, `/readyz`, `/startupz`, `/healthz`, `/drainz` and `/statusz` by their
/// whole paths, and 404 to all others. On the main port it ends with the listener, and a
/// blocked runtime blinds it: the probe server
/// ([`serve_probes`](crate::Lifecycle::serve_probes)) has neither trouble. `/statusz` and
/// `/drainz` are for operators: mount them where the public does not come, and do not wait
/// with `/drainz` on the port that is being drained.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::Router;
///
/// let life = lifecycle::Lifecycle::builder().build_local()?;
/// let probes = life.handle().probes();
/// let app: Router = Router::new()
///     .route_service("/livez", probes.clone())
///     .route_service("/readyz", probes);
/// # drop(app);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Probes {
    handle: Handle,
}

/// The response future of [`Probes`].
///
/// # Cancel safety
/// Cancel safe: nothing but the answer is lost.
#[must_use = "futures do nothing unless polled"]
pub struct ProbeFuture {
    inner: Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>,
}

impl Probes {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Whether an answer to this may take long.
    pub(crate) fn waits<B>(request: &Request<B>) -> bool {
        let asked = Ask::of(request.method(), request.uri(), request.headers());
        matches!(asked, Ok(Ask::Drain { wait }) if !wait.is_zero())
    }

    /// The answer to one request.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> ProbeFuture {
        let asked = Ask::of(request.method(), request.uri(), request.headers());
        let handle = self.handle.clone();
        ProbeFuture {
            inner: Box::pin(async move {
                match asked {
                    Ok(Ask::Drain { wait }) => with_headers(drained(&handle, wait).await),
                    Ok(ask) => with_headers(at_once(&handle, ask)),
                    Err(refusal) => refused(refusal),
                }
            }),
        }
    }
}

impl<B> tower_service::Service<Request<B>> for Probes {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = ProbeFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ProbeFuture {
        self.answer(&request)
    }
}

impl Future for ProbeFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx).map(Ok)
    }
}

/// What needs no waiting.
fn at_once(handle: &Handle, ask: Ask) -> Answer {
    let shared = handle.shared();
    match ask {
        Ask::Probe { probe, check, list } => {
            let items = super::items(shared, probe);
            match check {
                None => render::probe(probe, &items, &list),
                Some(name) => render::check(probe, &items, &name, &list),
            }
        }
        Ask::BeginDrain if shared.is_drained_by_post() => {
            handle.shutdown("POST /drainz");
            Answer::text(202, "the shutdown has begun\n")
        }
        Ask::BeginDrain => Answer::text(403, "POST /drainz is not enabled here\n"),
        Ask::Status { form } => status::answer(handle, form),
        Ask::Metrics => Answer::text(404, "no metrics are exported here\n"),
        Ask::Drain { .. } => Answer::text(500, "waits\n"),
    }
}

/// Whether the drain is over, now or within that time.
async fn drained(handle: &Handle, wait: Duration) -> Answer {
    // Its end, whether it has begun or not.
    let over = handle.reached(Phase::Closing);
    let over = handle.phase() >= Phase::Closing
        || (!wait.is_zero() && tokio::time::timeout(wait, over).await.is_ok());
    if over {
        return Answer::text(200, "drained\n");
    }
    let (phase, blockers) = (handle.phase(), handle.blockers());
    let left = crate::blockers::listed(&blockers);
    let left = if left.is_empty() { "nothing by name".to_owned() } else { left };
    Answer::text(503, format!("not drained: {phase}, in flight: {left}\n"))
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, text, allow) = match refusal {
        Refusal::BadRequest(why) => (400, format!("{why}\n"), None),
        Refusal::MethodNotAllowed { allow } => (405, format!("only {allow}\n"), Some(allow)),
        Refusal::NotFound => (404, NOT_FOUND.to_owned(), None),
    };
    let mut response = with_headers(Answer::text(status, text));
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn with_headers(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("handle", &self.handle).finish()
    }
}

impl fmt::Debug for ProbeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture").finish_non_exhaustive()
    }
}

const NOT_FOUND: &str =
    "not found: try /livez, /readyz, /startupz, /healthz, /drainz?wait=20s or /statusz\n";
