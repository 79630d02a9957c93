//! What the layer adds to a request, beside tower-http's count of those in flight.
//!
//! A request is made, passed to a service that answers at once with an empty body, and
//! that body is polled to its end and dropped.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use benches::{Promise, Reach, Rounds, Row, Setting, Subject, Work, production};
use http::{Request, Response, Uri};
use http_body::Body;
use lifecycle_tower::DrainLayer;
use tower_http::metrics::InFlightRequestsLayer;
use tower_layer::Layer;
use tower_service::Service;

fn main() -> ExitCode {
    let subjects = [
        Subject::new(BARE, || work(Answer)),
        Subject::new(NAMED, || drained(|layer| layer)),
        Subject::new(UNNAMED, || drained(DrainLayer::count_only)),
        Subject::new(COUNT, || {
            let (layer, counter) = InFlightRequestsLayer::pair();
            let requests = work(layer.layer(Answer));
            Arc::new(move |times| {
                requests(times);
                assert!(counter.get() <= 2, "at most one a thread");
            })
        }),
    ];
    benches::run("layer: one request", &subjects, rows)
}

fn rows(rounds: &Rounds) -> Vec<Row> {
    let made = [
        Row::overhead(rounds, Setting::One, [NAMED, COUNT], BARE, TWICE),
        Row::overhead(rounds, Setting::Two, [NAMED, COUNT], BARE, LESS),
        Row::flat(rounds, NAMED, FLAT),
        Row::overhead(rounds, Setting::One, [UNNAMED, COUNT], BARE, LESS),
        Row::overhead(rounds, Setting::Two, [UNNAMED, COUNT], BARE, LESS),
        Row::flat(rounds, UNNAMED, FLAT),
    ];
    made.map(|row| row.shows(Promise::Layer)).into()
}

/// Under a layer of a lifecycle of its own, with a control thread as in production.
fn drained(mode: fn(DrainLayer) -> DrainLayer) -> Work {
    let life = production();
    let requests = work(mode(DrainLayer::new(&life.handle())).layer(Answer));
    // Kept beside them, since dropping it ends it; in a mutex, since it is not `Sync`.
    let life = Mutex::new(life);
    Arc::new(move |times| {
        let _alive = &life;
        requests(times);
    })
}

/// Each batch on a clone of the service, as each connection has its own.
fn work<S, B>(service: S) -> Work
where
    S: Service<Request<Empty>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    B: Body,
{
    let uri = Uri::from_static("/orders/17");
    Arc::new(move |times| {
        let mut service = service.clone();
        for _ in 0..times {
            request(&mut service, uri.clone());
        }
    })
}

fn request<S, B>(service: &mut S, uri: Uri)
where
    S: Service<Request<Empty>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    assert!(service.poll_ready(&mut cx).is_ready());
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) else {
        unreachable!("it answers at once");
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok(), "an empty body does not fail");
    }
}

type Empty = http_body_util::Empty<&'static [u8]>;

/// Ready, and answers at once.
#[derive(Clone, Copy, Debug)]
struct Answer;

impl Service<Request<Empty>> for Answer {
    type Response = Response<Empty>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

const BARE: &str = "bare service";
const NAMED: &str = "DrainLayer, named";
const UNNAMED: &str = "DrainLayer, count only";
const COUNT: &str = "InFlightRequests";
const TWICE: Reach = Reach { at_most: 2.0, words: "at most 2.00" };
const LESS: Reach = Reach { at_most: 1.0, words: "less: 1.00" };
/// The bare service's own time counts on both sides of it.
const FLAT: Reach = Reach { at_most: 1.1, words: "flat: 1.10" };
