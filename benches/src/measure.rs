//! Wall time: each round runs every subject in every setting, one right after the other.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pool::Pool;

/// Does the measured operation so many times.
pub type Work = Arc<dyn Fn(u64) + Send + Sync>;

/// A [`Work`] that repeats `operation`.
pub fn work(operation: impl Fn() + Send + Sync + 'static) -> Work {
    Arc::new(move |times| (0..times).for_each(|_| operation()))
}

/// Something to be measured.
pub struct Subject {
    pub(crate) name: &'static str,
    pub(crate) make: Arc<dyn Fn() -> Work + Send + Sync>,
}

impl Subject {
    /// Each call of `make` must give work on an object that shares nothing with the others:
    /// threads that share call it once, the control calls it once a thread.
    pub fn new(name: &'static str, make: impl Fn() -> Work + Send + Sync + 'static) -> Self {
        Self { name, make: Arc::new(make) }
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a subject is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Setting {
    /// One thread.
    One,
    /// Two threads on one object.
    Two,
    /// The control on one thread.
    ControlOne,
    /// The control: two threads, an object each.
    ControlTwo,
}

/// All figures of one run: nanoseconds an operation takes on the thread that does it.
#[derive(Debug)]
pub struct Rounds {
    names: Vec<&'static str>,
    /// By setting, then by subject, then by round.
    figures: [Vec<Vec<f64>>; SETTINGS.len()],
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
}

impl Rounds {
    pub(crate) fn measure(pool: &Pool, subjects: &[Subject], rounds: usize) -> Self {
        let shared: Vec<Work> = subjects.iter().map(|subject| (subject.make)()).collect();
        let own: Vec<Vec<Work>> = subjects.iter().map(|subject| own(pool, subject)).collect();
        let mut figures = SETTINGS.map(|_| vec![Vec::new(); subjects.len()]);
        for round in 0..rounds {
            for (setting, figures) in SETTINGS.into_iter().zip(&mut figures) {
                // Whoever comes first differs from round to round.
                for nth in 0..subjects.len() {
                    let at = (nth + round) % subjects.len();
                    let (shared, own) = (&shared[at], &own[at]);
                    let works = match setting {
                        Setting::One => vec![shared.clone()],
                        Setting::Two => vec![shared.clone(); pool.threads()],
                        Setting::ControlOne => vec![own[0].clone()],
                        Setting::ControlTwo => own.clone(),
                    };
                    figures[at].push(nanos(pool, works));
                }
            }
        }
        let names = subjects.iter().map(|subject| subject.name).collect();
        Self { names, figures, rounds, threads: pool.threads() }
    }

    /// Measures on pinned threads.
    #[must_use]
    pub fn of_pinned(subjects: &[Subject], rounds: usize) -> Self {
        Self::measure(&Pool::pinned(), subjects, rounds)
    }

    /// Its figures, round by round.
    ///
    /// # Panics
    /// When there is no subject of that name.
    #[must_use]
    pub fn of(&self, name: &str, setting: Setting) -> &[f64] {
        let at = self.names.iter().position(|known| *known == name);
        let at = at.unwrap_or_else(|| panic!("no subject {name:?}"));
        let setting = SETTINGS.iter().position(|known| *known == setting);
        &self.figures[setting.expect("every setting is in the list")][at]
    }

    /// What it takes more than `base`, round by round. Never below zero.
    #[must_use]
    pub fn over(&self, name: &str, base: &str, setting: Setting) -> Vec<f64> {
        let pairs = self.of(name, setting).iter().zip(self.of(base, setting));
        pairs.map(|(figure, base)| (figure - base).max(0.0)).collect()
    }

    /// What the control's time on two threads is to its time on one.
    #[must_use]
    pub fn control(&self, name: &str) -> Spread {
        let (two, one) = (self.of(name, Setting::ControlTwo), self.of(name, Setting::ControlOne));
        Spread::of_ratios(two, one)
    }

    /// Whether what two threads on one object took says something about that object.
    #[must_use]
    pub fn is_control_flat(&self, name: &str) -> bool {
        self.threads > 1 && self.control(name).median <= CONTROL_MOST
    }
}

/// The least, the middle and the greatest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (len, min, max) = (sorted.len(), sorted[0], sorted[sorted.len() - 1]);
        // Of an even number there are two middles.
        let median = sorted[(len - 1) / 2].midpoint(sorted[len / 2]);
        Self { min, median, max }
    }

    /// Of the ratios, round by round. Over nothing, a ratio is infinite: against us.
    #[must_use]
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        let ratio = |(ours, theirs): (&f64, &f64)| {
            if *theirs > 0.0 { ours / theirs } else { f64::INFINITY }
        };
        Self::of(&ours.iter().zip(theirs).map(ratio).collect::<Vec<_>>())
    }
}

/// An object for each thread, made by that thread and so in its part of the heap.
fn own(pool: &Pool, subject: &Subject) -> Vec<Work> {
    let make = |thread| {
        let make = subject.make.clone();
        pool.on(thread, move || make()).recv().expect("the thread lives")
    };
    (0..pool.threads()).map(make).collect()
}

/// Runs each work on a thread of its own, all at the same time.
fn nanos(pool: &Pool, works: Vec<Work>) -> f64 {
    let threads = works.len();
    let arrived = Arc::new(AtomicUsize::new(0));
    let results: Vec<_> = (0..)
        .zip(works)
        .map(|(thread, work)| {
            let arrived = arrived.clone();
            pool.on(thread, move || {
                work(CHUNK);
                arrived.fetch_add(1, Ordering::AcqRel);
                while arrived.load(Ordering::Acquire) < threads {
                    hint::spin_loop();
                }
                timed(&work)
            })
        })
        .collect();
    let sum: f64 = results.iter().map(|result| result.recv().expect("the thread lives")).sum();
    sum / threads as f64
}

/// By time, not by number: so threads of unequal luck end together.
fn timed(work: &Work) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    loop {
        work(CHUNK);
        done += CHUNK;
        let elapsed = start.elapsed();
        if elapsed >= BATCH {
            return elapsed.as_nanos() as f64 / done as f64;
        }
    }
}

const SETTINGS: [Setting; 4] =
    [Setting::One, Setting::ControlOne, Setting::Two, Setting::ControlTwo];
/// Short against the scheduler's slice, so that most batches are whole.
const BATCH: Duration = Duration::from_millis(2);
/// Between two looks at the clock.
const CHUNK: u64 = 1024;
/// Two threads on two free cores give 1.0; on one core, 2.0.
pub(crate) const CONTROL_MOST: f64 = 1.5;

#[cfg(test)]
impl Rounds {
    /// One round of each, as if measured: what a subject takes in each setting.
    pub(crate) fn made_up(subjects: &[(&'static str, [f64; SETTINGS.len()])]) -> Self {
        let figures = std::array::from_fn(|setting| {
            subjects.iter().map(|(_, figures)| vec![figures[setting]]).collect()
        });
        let names = subjects.iter().map(|(name, _)| *name).collect();
        Self { names, figures, rounds: 1, threads: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle_in_whatever_order() {
        let spread = Spread::of(&[3.0, 1.0, 9.0, 2.0, 8.0]);
        assert_eq!(spread, Spread { min: 1.0, median: 3.0, max: 9.0 });
    }

    #[test]
    fn of_two_middles_it_is_the_mean() {
        assert_eq!(Spread::of(&[9.0, 1.0, 3.0, 2.0]).median.to_bits(), 2.5_f64.to_bits());
        assert!(Spread::of(&[1.0, f64::INFINITY, f64::INFINITY, 2.0]).median.is_infinite());
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_over_nothing_against_us() {
        let spread = Spread::of_ratios(&[1.0, 20.0, 3.0], &[2.0, 40.0, 0.0]);
        assert_eq!((spread.min, spread.median), (0.5, 0.5));
        assert!(spread.max.is_infinite());
    }

    #[test]
    fn every_subject_is_measured_in_every_setting() {
        let subjects = ["a", "b"].map(|name| Subject::new(name, || work(|| ())));
        let rounds = Rounds::measure(&Pool::pinned(), &subjects, 3);
        for setting in SETTINGS {
            assert_eq!(rounds.of("a", setting).len(), 3);
            assert!(rounds.over("b", "a", setting).iter().all(|figure| *figure >= 0.0));
        }
    }
}
