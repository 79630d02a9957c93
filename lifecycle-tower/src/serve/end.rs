//! What ends a response under `serve` before its time: the drain a stream, the hard stop a
//! gRPC call, which has to be told its status while its connection is still there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Response, Version};
use http_body::{Body, Frame};
use lifecycle::{Handle, Phase};
use tokio::time::Instant;

use crate::grpc;
use crate::stream::{StreamEnd, StreamPolicy, share_of};

/// Ends one body when its time has come.
#[derive(Debug)]
pub(crate) enum BodyEnd {
    Call(CallEnd),
    Stream(StreamEnd),
}

/// Ends one gRPC call, answered or not: at the drain if its policy asks for it, else before
/// the connections are dropped.
pub(crate) struct CallEnd {
    handle: Handle,
    /// At the drain, within this time.
    at_drain: Option<Duration>,
    /// Armed when the call is first found pending.
    wait: Option<Pin<Box<dyn Future<Output = &'static str> + Send>>>,
}

/// What comes next of a body that may have to end.
pub(crate) enum Next<D, E> {
    Frame(Poll<Option<Result<Frame<D>, E>>>),
    /// It ends now, with these trailers if its clients expect any.
    End(Option<HeaderMap>),
}

impl BodyEnd {
    /// The end of a body with this head, if it is to be ended: never one of a known length,
    /// whether its header is there yet or is the server's to write.
    pub(crate) fn of<B: Body>(
        asked: Version,
        response: &Response<B>,
        handle: &Handle,
    ) -> Option<Self> {
        let (headers, body) = (response.headers(), response.body());
        // First what nearly every body has.
        if body.size_hint().exact().is_some() {
            return None;
        }
        let policy = response.extensions().get().copied();
        if !grpc::is_grpc(asked, headers) {
            return StreamEnd::of(headers, body, policy, handle).map(Self::Stream);
        }
        let at_drain = match policy {
            Some(StreamPolicy::EndAtDrain) => Some(Duration::ZERO),
            Some(StreamPolicy::EndWithin(spread)) => Some(spread),
            Some(StreamPolicy::LetFinish) | None => None,
        };
        Some(Self::Call(CallEnd::new(handle, at_drain)))
    }

    /// Ready when the body is to end now, with the trailers that its clients expect then.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<HeaderMap>> {
        match self {
            Self::Call(end) => end.poll(cx).map(|message| Some(grpc::unavailable(message))),
            Self::Stream(end) => end.poll(cx).map(|()| None),
        }
    }

    /// Whether it may end now: a call's body that is always ready arms no wait.
    fn is_due(&self) -> bool {
        match self {
            Self::Call(end) => end.handle.phase() >= Phase::Draining,
            Self::Stream(_) => true,
        }
    }
}

/// The next of a body that may have to end.
pub(crate) fn poll_next<B: Body>(
    inner: Pin<&mut B>,
    end: &mut Option<Box<BodyEnd>>,
    cx: &mut Context<'_>,
) -> Next<B::Data, B::Error> {
    let Some(end) = end else { return Next::Frame(inner.poll_frame(cx)) };
    // The end is looked at first, so that a frame already made is never thrown away.
    let looked = end.is_due();
    if looked && let Poll::Ready(trailers) = end.poll(cx) {
        return Next::End(trailers);
    }
    let frame = inner.poll_frame(cx);
    if !looked
        && frame.is_pending()
        && let Poll::Ready(trailers) = end.poll(cx)
    {
        return Next::End(trailers);
    }
    Next::Frame(frame)
}

impl CallEnd {
    pub(crate) fn new(handle: &Handle, at_drain: Option<Duration>) -> Self {
        Self { handle: handle.clone(), at_drain, wait: None }
    }

    /// Ready when the call is to end now, with the message that says why; otherwise the task
    /// is woken then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let (handle, at_drain) = (&self.handle, self.at_drain);
        let wait = self.wait.get_or_insert_with(|| Box::pin(end_of_call(handle.clone(), at_drain)));
        wait.as_mut().poll(cx)
    }
}

impl fmt::Debug for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallEnd").field("at_drain", &self.at_drain).finish_non_exhaustive()
    }
}

async fn end_of_call(handle: Handle, at_drain: Option<Duration>) -> &'static str {
    let drained = async {
        let Some(spread) = at_drain else { return std::future::pending().await };
        handle.draining().await;
        if !spread.is_zero() {
            tokio::time::sleep(share_of(spread)).await;
        }
    };
    let stopped = async {
        handle.cancelled().await;
        let now = Instant::now();
        let window = handle.deadline(Phase::Cancelling).map_or(Duration::ZERO, |ends| ends - now);
        tokio::time::sleep_until(now + time_to_end(window)).await;
    };
    tokio::select! {
        biased;
        () = drained => grpc::DRAIN,
        () = stopped => HARD_STOP,
    }
}

/// How long after the hard stop a call may end by itself. The rest of the cancel window is
/// for the status to reach the socket, past other tasks and what is sent before it: a
/// quarter; of a short one 100 ms, but never more than half.
fn time_to_end(cancel_window: Duration) -> Duration {
    let status = (cancel_window / 4).max(STATUS_LEAST).min(cancel_window / 2);
    cancel_window - status
}

/// The message of a call that the hard stop ends.
pub(crate) const HARD_STOP: &str = "shutdown: hard stop";
const STATUS_LEAST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    struct Endless;

    impl Body for Endless {
        type Data = &'static [u8];
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Pending
        }
    }

    /// How long after the cause a body with that head ends, and its trailers. The hard stop
    /// is at 8 s, the cancel window until 8.5 s.
    async fn ends_after(
        kind: &'static str,
        policy: Option<StreamPolicy>,
    ) -> Option<(Duration, Option<HeaderMap>)> {
        let life = lifecycle::Lifecycle::builder()
            .grace_period(Duration::from_secs(10))
            .lame_duck_period(Duration::ZERO)
            .build_local()
            .expect("fits");
        let handle = life.handle();
        let hold = handle.enter("a body").expect("open");
        let mut response = Response::new(Endless);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(policy) = policy {
            response.extensions_mut().insert(policy);
        }
        let mut end = BodyEnd::of(Version::HTTP_2, &response, &handle)?;
        let body = tokio::spawn(async move {
            let began = Instant::now();
            let trailers = std::future::poll_fn(|cx| end.poll(cx)).await;
            drop(hold);
            (began.elapsed(), trailers)
        });
        handle.shutdown("test");
        drop(life.run().await.expect("ran"));
        Some(body.await.expect("no panic"))
    }

    #[tokio::test(start_paused = true)]
    async fn grpc_streams_end_with_unavailable_when_asked_or_else_before_they_are_cut() {
        let (grpc, sse) = ("application/grpc", "text/event-stream");
        let (drain, stop) = (grpc::unavailable(grpc::DRAIN), grpc::unavailable(HARD_STOP));
        let three_quarters = Duration::from_millis(8_375);
        let soon = Duration::from_secs(1);
        assert_eq!(ends_after("text/plain", None).await, None);
        assert_eq!(ends_after(sse, None).await, Some((Duration::ZERO, None)));
        let asked = ends_after(grpc, Some(StreamPolicy::EndAtDrain)).await;
        assert_eq!(asked, Some((Duration::ZERO, Some(drain.clone()))));
        for policy in [None, Some(StreamPolicy::LetFinish)] {
            let (after, trailers) = ends_after(grpc, policy).await.expect("ends");
            assert!(after.abs_diff(three_quarters) < Duration::from_millis(5), "{after:?}");
            assert_eq!(trailers, Some(stop.clone()), "{policy:?}");
        }
        let (after, trailers) =
            ends_after(grpc, Some(StreamPolicy::EndWithin(soon))).await.expect("ends");
        assert!(after <= soon + Duration::from_millis(2), "{after:?}");
        assert_eq!(trailers, Some(drain.clone()));
    }

    #[tokio::test]
    async fn an_answer_of_known_length_is_never_ended() {
        let life = lifecycle::Lifecycle::builder().build_local().expect("defaults");
        let mut whole = Response::new(String::from("the whole answer"));
        let grpc = HeaderValue::from_static("application/grpc");
        whole.headers_mut().insert(header::CONTENT_TYPE, grpc);
        assert!(BodyEnd::of(Version::HTTP_2, &whole, &life.handle()).is_none());
        let endless = whole.map(|_| Endless);
        assert!(BodyEnd::of(Version::HTTP_11, &endless, &life.handle()).is_none());
        assert!(BodyEnd::of(Version::HTTP_2, &endless, &life.handle()).is_some());
    }

    #[test]
    fn a_part_of_the_window_is_left_for_the_status() {
        // The longest, of 30 s and of 10 s of grace, of a forced stop, the shortest.
        for (window, until) in
            [(2_000, 1_500), (1_500, 1_125), (500, 375), (250, 150), (100, 50), (0, 0)]
        {
            let [window, until] = [window, until].map(Duration::from_millis);
            assert_eq!(time_to_end(window), until, "{window:?}");
        }
    }
}
