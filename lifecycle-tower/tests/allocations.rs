//! What the layer and the server ask of the allocator: nothing for a request beyond what the
//! service makes, nothing for a poll.

mod in_memory;

use std::alloc::System;
use std::convert::Infallible;
use std::future::{Future, Ready, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::{Empty, Full};
use in_memory::InMemory;
use lifecycle::{ForcedExit, Handle, Lifecycle};
use lifecycle_tower::DrainLayer;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tower::{Layer, Service};

#[test]
fn a_request_through_the_layer_allocates_what_its_service_does() {
    let _alone = alone();
    let life = Lifecycle::builder().forced_exit(ForcedExit::Never).probe_addr(None).build();
    let life = life.expect("it starts");
    let handle = life.handle();
    let bare = allocated(|| request(&mut Answer));
    assert!(bare > 0, "the service makes its body, and the allocator counts");
    let mut named = DrainLayer::new(&handle).layer(Answer);
    assert_eq!(allocated(|| request(&mut named)), bare);
    let mut counted = DrainLayer::new(&handle).count_only().layer(Answer);
    assert_eq!(allocated(|| request(&mut counted)), bare);
}

#[test]
fn a_poll_of_a_connection_allocates_nothing() {
    let _alone = alone();
    let least = least_of_each(|| {
        let polled = Arc::new(Mutex::new(Vec::new()));
        let entered = Arc::new(Notify::new());
        let app = |handle: &Handle| {
            let (handle, polled, entered) = (handle.clone(), polled.clone(), entered.clone());
            tower::service_fn(move |request: Request<_>| {
                let (handle, polled, entered) = (handle.clone(), polled.clone(), entered.clone());
                async move {
                    entered.notify_one();
                    if request.uri() == "/in-the-drain" {
                        handle.draining().await;
                    }
                    let mut polls = Polls::default();
                    poll_fn(|cx| polls.poll(cx)).await;
                    note(&polled, &polls);
                    let body = Streamed { polls: Polls::default(), polled };
                    Ok::<_, Infallible>(Response::new(body))
                }
            })
        };
        let held = &entered;
        let client = |handle: Handle, mut client: DuplexStream| async move {
            let entered = held;
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is taken");
            entered.notified().await;
            let answer = read_until(&mut client, LAST_CHUNK).await;
            assert!(!answer.contains("connection: close"), "{answer}");
            let request = b"GET /in-the-drain HTTP/1.1\r\nhost: x\r\n\r\n";
            client.write_all(request).await.expect("it is taken");
            entered.notified().await;
            handle.shutdown("the test");
            let answer = read_until(&mut client, LAST_CHUNK).await;
            assert!(answer.contains("connection: close"), "{answer}");
        };
        served(app, client);
        polled.lock().expect("no panic").clone()
    });
    assert_eq!(least, [0; 4], "handler and body, then both in the drain");
}

/// A piece of a head is a poll, with a timer to be looked at.
#[test]
fn a_head_in_pieces_allocates_what_a_whole_one_does() {
    let _alone = alone();
    let least = least_of_each(|| {
        let app = |_: &Handle| {
            tower::service_fn(|_: Request<_>| async {
                let body = Full::new(Bytes::from_static(b"hello"));
                Ok::<_, Infallible>(Response::new(body))
            })
        };
        served(app, |handle, mut client| async move {
            let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            let mut counts = Vec::new();
            for pieces in [request.len(), 1, request.len(), 1] {
                let before = allocations();
                for piece in request.chunks(pieces) {
                    client.write_all(piece).await.expect("it is taken");
                    // The connection is polled for it.
                    tokio::task::yield_now().await;
                }
                let mut answer = [0; 256];
                let len = client.read(&mut answer).await.expect("it answers");
                assert!(answer[..len].ends_with(b"hello"));
                counts.push(allocations() - before);
            }
            handle.shutdown("the test");
            counts
        })
    });
    // The first two make what a connection needs once.
    assert!(least[2] > 0, "a request makes its head: {least:?}");
    assert_eq!(least[3], least[2], "in pieces, and whole: {least:?}");
}

/// Counts what is allocated between two of many polls.
#[derive(Default)]
struct Polls {
    done: usize,
    begun: usize,
    ended: usize,
}

impl Polls {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.done += 1;
        match self.done {
            FIRST => self.begun = allocations(),
            LAST => {
                self.ended = allocations();
                return Poll::Ready(());
            }
            _ => {}
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Four bytes, after a while.
struct Streamed {
    polls: Polls,
    polled: Arc<Mutex<Vec<usize>>>,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.polls.done == LAST {
            note(&self.polled, &self.polls);
            self.polls.done += 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"done")))));
        }
        if self.polls.done > LAST {
            return Poll::Ready(None);
        }
        let polled = self.polls.poll(cx);
        if polled.is_ready() { self.poll_frame(cx) } else { Poll::Pending }
    }
}

fn note(polled: &Mutex<Vec<usize>>, polls: &Polls) {
    polled.lock().expect("no panic").push(polls.ended - polls.begun);
}

/// Serves one connection in memory, on one thread, until the client has stopped it; what that
/// says at its end.
fn served<S, B, C, T>(
    app: impl FnOnce(&Handle) -> S,
    client: impl FnOnce(Handle, DuplexStream) -> C,
) -> T
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    C: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let builder = Lifecycle::builder().probe_addr(None).lame_duck_period(Duration::ZERO);
        let mut life = builder.build_local().expect("it starts");
        let handle = life.handle();
        let (connect, connections) = mpsc::channel(1);
        life.spawn("http", lifecycle_tower::serve(InMemory(connections), app(&handle)));
        let (ours, theirs) = tokio::io::duplex(4096);
        connect.send(theirs).await.expect("it accepts");
        let both = async { tokio::join!(client(handle, ours), life.run()) };
        let (told, report) = timeout(LIMIT, both).await.expect("it ends in time");
        assert_eq!(report.expect("it runs").exit_code(), 0);
        told
    })
}

async fn read_until(client: &mut DuplexStream, end: &[u8]) -> String {
    let mut told = Vec::new();
    while !told.ends_with(end) {
        let read = client.read_buf(&mut told).await.expect("it answers");
        assert_ne!(read, 0, "it is not cut: {}", String::from_utf8_lossy(&told));
    }
    String::from_utf8_lossy(&told).into_owned()
}

/// Ready, and answers at once with a body of its own.
#[derive(Clone, Copy)]
struct Answer;

impl Service<Request<Empty<Bytes>>> for Answer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Empty<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(Full::new(Bytes::from(vec![b'x'; 100])))))
    }
}

/// One request to the end of its response's body.
fn request<S, B>(service: &mut S)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static("/orders/17");
    assert!(service.poll_ready(&mut cx).is_ready());
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut cx) else {
        unreachable!("it answers at once");
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok(), "it does not fail");
    }
}

fn allocated(mut done: impl FnMut()) -> usize {
    let least = least_of_each(|| {
        let before = allocations();
        done();
        vec![allocations() - before]
    });
    least[0]
}

/// Of a few runs, since others (the control thread, a test that begins) may allocate meanwhile.
fn least_of_each(mut run: impl FnMut() -> Vec<usize>) -> Vec<usize> {
    let mut least = run();
    for _ in 1..REPEATS {
        for (least, again) in least.iter_mut().zip(run()) {
            *least = again.min(*least);
        }
    }
    least
}

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// The allocator counts for all threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// By then what comes with the drain has come.
const FIRST: usize = 500;
const LAST: usize = 1_000;
const REPEATS: usize = 5;
const LIMIT: Duration = Duration::from_secs(10);
