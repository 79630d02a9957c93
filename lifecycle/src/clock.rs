//! Milliseconds for ages, cheap enough for every request.
//!
//! On the control thread's lifecycles it is the operating system's coarse monotonic
//! clock (a few ns, a resolution of 1 to 4 ms); in a lifecycle that runs inside the
//! caller's runtime it is tokio's, so that paused time pauses ages too.

use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    Coarse { start_ms: u64 },
    Tokio { start: Instant },
}

impl Clock {
    pub(crate) fn coarse() -> Self {
        Self::Coarse { start_ms: coarse_ms() }
    }

    pub(crate) fn tokio() -> Self {
        Self::Tokio { start: Instant::now() }
    }

    /// Milliseconds since this clock was made.
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Self::Coarse { start_ms } => coarse_ms().saturating_sub(*start_ms),
            Self::Tokio { start } => u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn coarse_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanos / 1_000_000
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn coarse_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanos / 1_000_000
}
