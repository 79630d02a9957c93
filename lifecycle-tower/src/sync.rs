//! The only file that names std's or loom's atomics; see `lifecycle`'s file of that name.

#[cfg(not(all(test, lifecycle_loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

#[cfg(all(test, lifecycle_loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
