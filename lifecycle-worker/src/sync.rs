//! The only file that names std's or loom's atomics; see `lifecycle`'s file of that name.

#[cfg(not(all(test, lifecycle_loom)))]
pub(crate) use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(all(test, lifecycle_loom))]
pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};

/// A lock, poisoned or not: no invariant of ours lives behind one that a panic could break.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
