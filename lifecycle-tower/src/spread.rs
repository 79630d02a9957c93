//! A lame duck in which clients are told to leave one after another.

use lifecycle::{Handle, Phase};

use crate::chance::draw;

/// Which responses of the lame duck tell an HTTP/1 client to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseSpread {
    /// Every one.
    AtOnce,
    /// A share that rises from none to all.
    OverLameDuck,
}

impl CloseSpread {
    /// Whether a response that is made now tells its client to leave. From the drain on
    /// every one does.
    pub(crate) fn tells(self, handle: &Handle) -> bool {
        let phase = handle.phase();
        match self {
            Self::OverLameDuck if phase == Phase::LameDuck => draw() < handle.lame_duck_progress(),
            _ => phase.is_shutting_down(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The draws of 10 000 responses at each moment: the expected number has a standard
    /// deviation of 50 at most, and 500 is ten of them.
    #[tokio::test(start_paused = true)]
    async fn the_share_that_is_told_rises_with_the_lame_duck() {
        let life = lifecycle::Lifecycle::builder()
            .grace_period(Duration::from_secs(30))
            .lame_duck_period(Duration::from_secs(4))
            .build_local()
            .expect("fits");
        let handle = life.handle();
        handle.listening();
        let told = |spread: CloseSpread| (0..10_000).filter(|_| spread.tells(&handle)).count();
        assert_eq!(told(CloseSpread::OverLameDuck), 0, "before the cause");
        let hold = handle.enter("a request").expect("open");
        let run = tokio::spawn(life.run());
        handle.shutdown("test");
        handle.lame_duck().await;
        for percent in [25_u32, 50, 75] {
            // Sleeps: paused time.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let count = told(CloseSpread::OverLameDuck);
            assert!(count.abs_diff(100 * percent as usize) < 500, "at {percent} %: {count}");
            assert_eq!(told(CloseSpread::AtOnce), 10_000, "at {percent} %");
        }
        handle.draining().await;
        assert_eq!(told(CloseSpread::OverLameDuck), 10_000, "in the drain");
        drop(hold);
        drop(run.await.expect("no panic").expect("ran"));
    }
}
