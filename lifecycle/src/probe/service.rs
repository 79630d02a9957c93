//! The probes as a tower service: on the probe server, or mounted in a router of yours.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};

use super::ask::{Ask, Refusal};
use super::page::POLICY;
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

/// What a request asks for, or why it is refused.
pub(crate) struct Asked(Result<Ask, Refusal>);

impl Probes {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// What a request asks for; to be answered by [`respond`](Self::respond).
    pub(crate) fn asked<B>(request: &Request<B>) -> Asked {
        Asked(Ask::of(request.method(), request.uri(), request.headers()))
    }

    pub(crate) fn respond(&self, asked: Asked) -> ProbeFuture {
        let handle = self.handle.clone();
        ProbeFuture {
            inner: Box::pin(async move {
                match asked.0 {
                    Ok(ask) => with_headers(answer(&handle, ask).await),
                    Err(refusal) => refused(refusal),
                }
            }),
        }
    }
}

impl Asked {
    /// Whether its answer may take long.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.0, Ok(Ask::Drain { wait }) if !wait.is_zero())
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
        self.respond(Self::asked(&request))
    }
}

impl Future for ProbeFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx).map(Ok)
    }
}

/// Waits for nothing but the drain, where that is asked for.
async fn answer(handle: &Handle, ask: Ask) -> Answer {
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
        Ask::Metrics => match shared.exported() {
            Some(body) => Answer { status: 200, kind: PROMETHEUS, body },
            None => Answer::text(404, "no metrics are exported here\n"),
        },
        Ask::Drain { wait } => drained(handle, wait).await,
    }
}

/// The type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the drain is over, now or within that time.
async fn drained(handle: &Handle, wait: Duration) -> Answer {
    // Its end, whether it has begun or not.
    let over = handle.reached(Phase::Closing);
    let over = handle.phase() >= Phase::Closing
        || (!wait.is_zero() && tokio::time::timeout(wait, over).await.is_ok());
    if over {
        return Answer::text(200, "drained\n");
    }
    let (phase, blockers) = (handle.phase(), super::waited_for(handle.shared()));
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
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if answer.kind.starts_with("text/html") {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
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

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use std::sync::Arc;

    use hyper::{Method, Uri};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::clock::Clock;
    use crate::readiness::ReadinessPolicy;
    use crate::shared::Shared;

    fn shared(policy: ReadinessPolicy) -> Arc<Shared> {
        Arc::new(Shared::new(Clock::coarse(), policy, None))
    }

    fn ask(shared: &Arc<Shared>, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        let probes = Probes::new(Handle::new(Arc::clone(shared)));
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) = (method.clone(), uri.clone());
        let mut answer = tokio_test::task::spawn(probes.respond(Probes::asked(&request)));
        match answer.poll() {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => panic!("{method} {uri} waits"),
        }
    }

    fn get(shared: &Arc<Shared>, path: &'static str) -> u16 {
        ask(shared, &Method::GET, &Uri::from_static(path)).status().as_u16()
    }

    #[test]
    fn each_probe_follows_the_phase() {
        let shared = shared(ReadinessPolicy::default());
        let all = || ["/livez", "/readyz", "/startupz"].map(|path| get(&shared, path));
        assert_eq!(all(), [200, 503, 503]);
        shared.enter(Phase::Running);
        assert_eq!(all(), [200, 200, 200]);
        for phase in [Phase::LameDuck, Phase::Draining, Phase::Cancelling, Phase::Closing] {
            shared.enter(phase);
            assert_eq!(all(), [200, 503, 200], "{phase}");
        }
    }

    #[test]
    fn a_stop_before_the_start_was_over_makes_nothing_ready() {
        for policy in [ReadinessPolicy::Never, ReadinessPolicy::AtDrain] {
            let shared = shared(policy);
            shared.enter(Phase::LameDuck);
            for path in ["/readyz", "/startupz"] {
                assert_eq!(get(&shared, path), 503, "{policy:?} {path}");
            }
        }
    }

    #[test]
    fn other_paths_and_methods_are_told_off_in_plain_words() {
        let shared = shared(ReadinessPolicy::default());
        assert_eq!(get(&shared, "/"), 404);
        let head = ask(&shared, &Method::HEAD, &Uri::from_static("/livez?verbose"));
        assert_eq!(head.status().as_u16(), 200);
        let post = ask(&shared, &Method::POST, &Uri::from_static("/livez"));
        assert_eq!(post.status().as_u16(), 405);
        assert_eq!(post.headers()[ALLOW], "GET, HEAD");
        assert_eq!(post.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(get(&shared, "/drainz?wait=soon"), 400);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn every_request_has_an_answer_and_most_queries_change_none(
            path in prop_oneof!["/(livez|readyz|startupz|healthz)/?", "/[!-~]{0,20}", "[!-~]{0,20}"],
            query in "[!-~&&[^ewEW%]]{0,30}",
            method in "[A-Z]{1,8}|GET|HEAD",
            phase in select(Phase::ALL.to_vec()),
        ) {
            let shared = shared(ReadinessPolicy::default());
            if phase > Phase::Starting {
                shared.enter(phase);
            }
            let method = Method::from_bytes(method.as_bytes()).expect("a token");
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            let response = ask(&shared, &method, &uri);
            let status = response.status().as_u16();
            let bare = path.strip_suffix('/').unwrap_or(&path);
            let known = ["/livez", "/readyz", "/startupz", "/healthz"].contains(&bare);
            let reads = [Method::GET, Method::HEAD].contains(&method);
            if known {
                let falls = bare == "/readyz" || bare == "/startupz";
                let met = if reads { status == 200 || (status == 503 && falls) } else { status == 405 };
                prop_assert!(met, "{} {}: {}", method, path, status);
            } else {
                prop_assert!([200, 202, 400, 403, 404, 405, 503].contains(&status));
            }
            prop_assert_eq!(&response.headers()[CACHE_CONTROL], "no-store");
            if let Some(uri) = format!("{path}?{query}").parse::<Uri>().ok().filter(|_| known) {
                prop_assert_eq!(ask(&shared, &method, &uri).status().as_u16(), status);
            }
        }
    }
}
