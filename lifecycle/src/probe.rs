//! The probe server: `/livez`, `/readyz`, `/startupz`, on the control thread.
//!
//! Answers from what is known; no request waits for anything. A blocked application
//! runtime does not blind it.
//!
//! # Invariants
//! 1. `/livez` does not fall because of a drain.
//! 2. It is the last thing to stop, just before the report.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, JoinSet};

use crate::phase::Phase;
use crate::shared::Shared;

/// The servers on their listeners; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    listeners: JoinSet<()>,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, listeners: JoinSet::new() }
    }

    /// Serves on a listener that is already in non-blocking mode.
    pub(crate) fn serve(&mut self, listener: TcpListener) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                self.listeners.spawn(accept(listener, Arc::clone(&self.shared)));
            }
            Err(error) => {
                tracing::error!(target: "lifecycle", %error, "the probe listener cannot be used");
            }
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut by_age = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    make_room(&mut by_age);
                    let shared = Arc::clone(&shared);
                    by_age.push_back(connections.spawn(connection(stream, shared)));
                }
                // Out of descriptors, or a client that has already gone: never a spin.
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The oldest goes when there are too many: a prober asks at once, so it is one that is mute.
fn make_room(by_age: &mut VecDeque<AbortHandle>) {
    by_age.retain(|connection| !connection.is_finished());
    while by_age.len() >= CONNECTIONS_MOST {
        if let Some(oldest) = by_age.pop_front() {
            oldest.abort();
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &shared);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        // `printf "GET /livez ..." | nc -N` closes its half at once, and waits for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // A client that reads nothing is dropped; probes are small enough for any socket buffer.
    drop(tokio::time::timeout(CONNECTION_TIMEOUT, served).await);
}

fn answer<B>(request: &Request<B>, shared: &Shared) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (ok, otherwise) = match request.uri().path() {
        "/livez" => (true, ""),
        "/readyz" => (shared.is_ready(), why_not(shared.phase())),
        "/startupz" => (shared.is_started(), why_not(shared.phase())),
        _ => {
            return plain(StatusCode::NOT_FOUND, "not found: try /livez, /readyz or /startupz");
        }
    };
    if ok { plain(StatusCode::OK, "ok") } else { plain(StatusCode::SERVICE_UNAVAILABLE, otherwise) }
}

fn why_not(phase: Phase) -> &'static str {
    if phase.is_shutting_down() { "not ready: shutting down" } else { "not ready: starting" }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A platform asks over a few.
const CONNECTIONS_MOST: usize = 128;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// For the head of a request, and between two on one connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection; a probing platform opens another.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(all(test, not(lifecycle_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::readiness::ReadinessPolicy;

    fn ask(shared: &Shared, method: Method, path: &str) -> (u16, Response<Full<Bytes>>) {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        let response = answer(&request, shared);
        (response.status().as_u16(), response)
    }

    #[test]
    fn each_probe_follows_the_phase() {
        let shared = Shared::new(Clock::coarse(), ReadinessPolicy::default());
        let all = |shared: &Shared| {
            ["/livez", "/readyz", "/startupz"].map(|path| ask(shared, Method::GET, path).0)
        };
        assert_eq!(all(&shared), [200, 503, 503]);
        shared.enter(Phase::Running);
        assert_eq!(all(&shared), [200, 200, 200]);
        for phase in [Phase::LameDuck, Phase::Draining, Phase::Cancelling, Phase::Closing] {
            shared.enter(phase);
            assert_eq!(all(&shared), [200, 503, 200], "{phase}");
        }
    }

    #[test]
    fn a_stop_before_the_start_was_over_makes_nothing_ready() {
        let policies = [ReadinessPolicy::Never, ReadinessPolicy::AtDrain];
        for policy in policies {
            let shared = Shared::new(Clock::coarse(), policy);
            shared.enter(Phase::LameDuck);
            for path in ["/readyz", "/startupz"] {
                assert_eq!(ask(&shared, Method::GET, path).0, 503, "{policy:?} {path}");
            }
        }
    }

    #[test]
    fn other_paths_and_methods_are_told_off_in_plain_words() {
        let shared = Shared::new(Clock::coarse(), ReadinessPolicy::default());
        assert_eq!(ask(&shared, Method::GET, "/").0, 404);
        assert_eq!(ask(&shared, Method::HEAD, "/livez?verbose").0, 200);
        let (status, response) = ask(&shared, Method::POST, "/livez");
        assert_eq!(status, 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}

/// For whatever is asked.
#[cfg(all(test, not(lifecycle_loom)))]
mod properties {
    use hyper::Uri;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::clock::Clock;
    use crate::readiness::ReadinessPolicy;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn every_request_has_an_answer_and_a_query_changes_none(
            path in prop_oneof!["/(livez|readyz|startupz)/?", "/[!-~]{0,20}", "[!-~]{0,20}"],
            query in "[!-~]{0,30}",
            method in "[A-Z]{1,8}|GET|HEAD",
            phase in select(Phase::ALL.to_vec()),
        ) {
            let shared = Shared::new(Clock::coarse(), ReadinessPolicy::default());
            if phase > Phase::Starting {
                shared.enter(phase);
            }
            let method = Method::from_bytes(method.as_bytes()).expect("a token");
            let ask = |uri: &str| {
                let mut request = Request::new(());
                *request.method_mut() = method.clone();
                *request.uri_mut() = uri.parse::<Uri>().ok()?;
                Some(answer(&request, &shared))
            };
            let Some(response) = ask(&path) else { return Ok(()) };
            let status = response.status().as_u16();
            let known = ["/livez", "/readyz", "/startupz"].contains(&path.as_str());
            let reads = [Method::GET, Method::HEAD].contains(&method);
            match (reads, known) {
                (false, _) => prop_assert_eq!(status, 405),
                (true, true) => prop_assert!(status == 200 || (status == 503 && path != "/livez")),
                (true, false) if !path.contains(['?', '#', ':']) => prop_assert_eq!(status, 404),
                (true, false) => prop_assert!([200, 404, 503].contains(&status)),
            }
            prop_assert_eq!(&response.headers()[CACHE_CONTROL], "no-store");
            if let Some(asked) = ask(&format!("{path}?{query}")).filter(|_| known) {
                prop_assert_eq!(asked.status().as_u16(), status);
            }
        }
    }
}
