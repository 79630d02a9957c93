//! Chance, where many things should not happen at the same moment.

use std::hash::{BuildHasher, RandomState};

/// A number from 0 up to but not 1, anew each time.
pub(crate) fn draw() -> f64 {
    // `RandomState` is seeded anew for each: randomness enough to spread reconnects.
    let random = RandomState::new().hash_one(0_u8);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
