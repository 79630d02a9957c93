//! The only file that names std's or loom's atomics and locks.
//!
//! Code elsewhere imports from here, so that `--cfg lifecycle_loom` swaps every atomic and lock
//! of what is modelled for loom's. A private cfg name, because plain
//! `--cfg loom` would also strip `tokio::signal` and `tokio::net`; in this crate's own tests
//! only, because loom is a dependency of those.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize as StdUsize, Ordering as StdOrdering};

#[cfg(not(all(test, lifecycle_loom)))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(all(test, lifecycle_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, lifecycle_loom))]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(all(test, lifecycle_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// A small number that is this thread's own, for picking a shard.
///
/// Numbers are given out in order of first use, so that threads fewer than shards
/// never share one. The counter is the one static of the crate; it holds nothing of
/// any [`Lifecycle`](crate::Lifecycle).
#[inline]
pub(crate) fn thread_number() -> usize {
    // During thread-local destruction any shard will do.
    OWN.try_with(|own| if own.get() == usize::MAX { first_number(own) } else { own.get() })
        .unwrap_or(0)
}

#[cold]
fn first_number(own: &Cell<usize>) -> usize {
    static NEXT: StdUsize = StdUsize::new(0);
    // Ordering: Relaxed, the number publishes nothing.
    own.set(NEXT.fetch_add(1, StdOrdering::Relaxed));
    own.get()
}

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// A poisoned lock holds values that are whole: nothing here panics halfway.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
