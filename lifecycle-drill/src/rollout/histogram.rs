//! Times counted in classes that grow with the time: at most 1/64 off, in bounded memory.

use std::time::Duration;

/// How often which time was met.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Histogram {
    pub(super) fn add(&mut self, time: Duration) {
        let class = class(micros(time));
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(time);
    }

    /// The time that this share of all did not exceed; zero if there are none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts of requests are far below 2^52, and a share of one is not negative"
        )]
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut below = 0;
        for (class, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return Duration::from_micros(top(class)).min(self.max);
            }
        }
        self.max
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn max(&self) -> Duration {
        self.max
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Below 64 each value has its class; above, each doubling has 64.
fn class(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(FINE_BITS + 1);
    let within = value >> shift;
    // `within` is below 128: the sum is a few thousand.
    usize::try_from(u64::from(shift) * FINE + within).unwrap_or(usize::MAX)
}

/// The largest value of a class.
fn top(class: usize) -> u64 {
    let class = class as u64;
    if class < 2 * FINE {
        return class;
    }
    let shift = class / FINE - 1;
    let within = class - shift * FINE;
    ((within + 1) << shift) - 1
}

const FINE_BITS: u32 = 6;
const FINE: u64 = 1 << FINE_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_64th_above_the_truth() {
        let mut histogram = Histogram::default();
        for value in 1..=10_000_u64 {
            histogram.add(Duration::from_micros(value * 7));
        }
        for (share, truth) in [(0.5, 35_000), (0.99, 69_300), (0.001, 70)] {
            let found = micros(histogram.quantile(share));
            assert!(found >= truth && found <= truth + truth / 64 + 1, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), histogram.max());
        assert_eq!(histogram.total(), 10_000);
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn classes_follow_each_other_without_a_gap() {
        let mut last = 0;
        for value in 1..100_000 {
            let class = class(value);
            assert!(class == last || class == last + 1, "{value}");
            assert!(top(class) >= value);
            last = class;
        }
        assert!(class(u64::MAX) < 5_000);
    }
}
