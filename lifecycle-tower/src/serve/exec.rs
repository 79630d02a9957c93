//! Runs HTTP/2 streams, each a task of its own, and knows when they have all ended.
//!
//! A stream's task ends by itself when its connection is dropped: hyper sees the reset at
//! its next poll, and the drop wakes it. So dropping the connection aborts its streams, and
//! the gate tells when they are gone.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::Executor;
use lifecycle::{Gate, InFlight};

use super::guard::RequestGuard;

/// The executor of one connection's streams.
#[derive(Clone)]
pub(crate) struct Streams {
    tasks: Gate,
}

pin_project_lite::pin_project! {
    /// A stream's task, or the task of a tunnel that a stream became.
    struct Stream<F> {
        #[pin]
        inner: F,
        // Boxed: it is rare, and every stream has room for it.
        tunnel: Option<Box<RequestGuard>>,
        guard: Option<InFlight>,
    }
}

thread_local! {
    /// The guard of a stream that becomes a tunnel, on its way from the request to the
    /// tunnel's task: hyper starts that within the same poll of the stream, on this thread.
    static HANDED_OVER: RefCell<Option<RequestGuard>> = const { RefCell::new(None) };
}

/// Gives the guard to the tunnel's task that is about to start.
pub(crate) fn hand_over(guard: RequestGuard) {
    // Whatever ends the tunnel, its task tells the protocol before it ends.
    guard.set_ended();
    HANDED_OVER.with(|slot| slot.replace(Some(guard)));
}

impl Streams {
    pub(crate) fn new(tasks: Gate) -> Self {
        Self { tasks }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, inner: F) {
        let tunnel = HANDED_OVER.with(RefCell::take).map(Box::new);
        let guard = self.tasks.enter_unnamed().ok();
        drop(tokio::spawn(Stream { inner, tunnel, guard }));
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.project().inner.poll(cx);
        // Not taken by a tunnel: the answer was refused after all.
        HANDED_OVER.with(|slot| drop(slot.take()));
        polled
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}
