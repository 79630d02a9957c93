//! Throughput: sides that do jobs of the same kind, one side after the other in each round.
//!
//! Not here: what a side does (`benches/worker`).
//!
//! # Invariants
//! 1. Both sides of a ratio come from the same round of the same contest.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::machine::machine;
use crate::measure::Spread;
use crate::promise::Promise;
use crate::record::{Record, record, record_with};

/// A moment, by the clock on the wall and by what this process has used of its processors.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: Instant,
    used: Duration,
}

/// What so many jobs took.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Took {
    /// How many there were.
    pub jobs: u64,
    /// From the first to the last.
    pub wall: Duration,
    /// Of this process' processors meanwhile: brokers are other processes.
    pub used: Duration,
    /// In which portions, where that is known.
    pub shape: Option<Shape>,
}

/// In how many calls jobs were claimed and acknowledged.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "not published")]
pub struct Shape {
    /// Claims that got something.
    pub claims: u64,
    /// Calls of `ack`.
    pub acks: u64,
}

/// One side of a contest.
pub struct Side {
    name: &'static str,
    run: Box<dyn Fn() -> Took>,
}

/// Sides that do the same, and who is to be how much faster.
pub struct Contest {
    name: String,
    sides: Vec<Side>,
    goals: Vec<Goal>,
    promise: fn(&Goal) -> Option<Promise>,
}

/// What the first side of a contest has to reach.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_enums, reason = "not published")]
pub enum Goal {
    /// At least so many times the jobs a second of that side.
    AtLeast(f64, &'static str),
    /// At most so many microseconds of processor a job.
    ProcessorAtMost(f64),
}

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32);
        Self { wall: Instant::now(), used }
    }

    /// What `jobs` took from this moment to `end`.
    #[must_use]
    pub fn to(&self, end: &Self, jobs: u64, shape: Option<Shape>) -> Took {
        Took { jobs, wall: end.wall - self.wall, used: end.used - self.used, shape }
    }
}

impl Took {
    fn rate(&self) -> f64 {
        self.jobs as f64 / self.wall.as_secs_f64()
    }

    fn used_each(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.jobs as f64
    }
}

impl Side {
    /// `run` makes what it needs, does its jobs and says what they took, the making apart.
    pub fn new(name: &'static str, run: impl Fn() -> Took + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contest {
    /// The first of `sides` has to reach the goals.
    #[must_use]
    pub fn new(name: String, sides: Vec<Side>, goals: Vec<Goal>) -> Self {
        Self { name, sides, goals, promise: |_| None }
    }

    /// Says which row of design section 6 each goal is one of.
    #[must_use]
    pub fn shows(self, promise: fn(&Goal) -> Option<Promise>) -> Self {
        Self { promise, ..self }
    }
}

impl std::fmt::Debug for Contest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs all sides of all contests in each of so many rounds, and prints what came out.
///
/// `with`: versions. `only`: contests that have this in their name.
pub fn compete(title: &str, with: &str, contests: &[Contest], rounds: usize, only: Option<&str>) {
    let wanted = |contest: &&Contest| only.is_none_or(|only| contest.name.contains(only));
    let contests: Vec<_> = contests.iter().filter(wanted).collect();
    let mut took: Vec<Vec<Vec<Took>>> =
        contests.iter().map(|contest| vec![Vec::new(); contest.sides.len()]).collect();
    for round in 0..rounds {
        for (contest, took) in contests.iter().zip(&mut took) {
            // Whoever comes first differs from round to round.
            for nth in 0..contest.sides.len() {
                let at = (nth + round) % contest.sides.len();
                took[at].push((contest.sides[at].run)());
            }
        }
    }
    println!("### {title}\n\n{}; {with}.\nMedians of {rounds} interleaved rounds.\n", machine());
    println!(
        "| queue, jobs at a time | subject | jobs/s, min - median - max | CPU, us a job | jobs a claim | jobs an ack |"
    );
    println!("|---|---|---|---|---|---|");
    for (contest, took) in contests.iter().zip(&took) {
        for (side, took) in contest.sides.iter().zip(took) {
            let rate = Spread::of(&each(took, Took::rate));
            let used = Spread::of(&each(took, Took::used_each)).median;
            let (claims, acks) = (portion(took, |s| s.claims), portion(took, |s| s.acks));
            let Spread { min, median, max } = rate;
            println!(
                "| {} | {} | {min:.0} - **{median:.0}** - {max:.0} | {used:.2} | {claims} | {acks} |",
                contest.name, side.name
            );
        }
    }
    println!("\n| row | ours | opponent | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    let judged = contests.iter().zip(&took).flat_map(|(contest, took)| {
        contest.goals.iter().map(move |goal| contest.judge(goal, took))
    });
    let judged: Vec<_> = judged.collect();
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    record(&judged);
    record_with(with);
}

impl Contest {
    fn judge(&self, goal: &Goal, took: &[Vec<Took>]) -> Record {
        let (name, ours) = (&self.name, self.sides[0].name);
        let judged = match goal {
            Goal::AtLeast(least, theirs) => {
                let at = self.sides.iter().position(|side| side.name == *theirs);
                let at = at.unwrap_or_else(|| panic!("no side {theirs:?}"));
                let rates = [&took[0], &took[at]].map(|took| each(took, Took::rate));
                let ratio = Spread::of_ratios(&rates[0], &rates[1]);
                let good = ratio.median >= *least;
                let verdict = reached(good, ratio.median / least, "of what it has to be");
                let judged = Record::new(format!("{name}: {ours} / {theirs}"), &Ok(ratio))
                    .judged(format!("at least {least:.2}"), (good, verdict));
                let sides = rates.map(|rates| format!("{:.0} jobs/s", Spread::of(&rates).median));
                Record { sides: sides.into(), ..judged }
            }
            Goal::ProcessorAtMost(most) => {
                let used = Spread::of(&each(&took[0], Took::used_each));
                let good = used.median <= *most;
                let verdict = reached(good, used.median / most, "times what it may be");
                let judged = Record::new(format!("{name}: {ours}, CPU a job"), &Ok(used))
                    .judged(format!("at most {most:.2} us"), (good, verdict));
                Record { unit: "us".to_owned(), ..judged }
            }
        };
        Record { promise: (self.promise)(goal), ..judged }
    }
}

pub(crate) fn reached(is_reached: bool, share: f64, words: &str) -> String {
    if is_reached { "reached".to_owned() } else { format!("**not reached**: {share:.2} {words}") }
}

fn each(took: &[Took], what: fn(&Took) -> f64) -> Vec<f64> {
    took.iter().map(what).collect()
}

/// How many jobs a call had, in the middle round.
fn portion(took: &[Took], calls: fn(&Shape) -> u64) -> String {
    let jobs = |took: &Took| Some(took.jobs as f64 / calls(&took.shape?).max(1) as f64);
    let portions: Option<Vec<_>> = took.iter().map(jobs).collect();
    portions.map_or_else(|| "-".to_owned(), |all| format!("{:.1}", Spread::of(&all).median))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(wall_ms: u64) -> Took {
        let shape = Some(Shape { claims: 10, acks: 20 });
        let (wall, used) = (Duration::from_millis(wall_ms), Duration::from_micros(300));
        Took { jobs: 100, wall, used, shape }
    }

    fn contest() -> Contest {
        let sides = ["ours", "theirs"].map(|name| Side::new(name, || took(1)));
        Contest::new("memory, 50".to_owned(), sides.into(), Vec::new()).shows(|goal| match goal {
            Goal::AtLeast(..) => Some(Promise::Jobs),
            Goal::ProcessorAtMost(_) => None,
        })
    }

    #[test]
    fn a_rate_is_judged_by_the_middle_of_the_ratios() {
        let rounds = [vec![took(10), took(10), took(40)], vec![took(20), took(5), took(20)]];
        let judged = contest().judge(&Goal::AtLeast(0.9, "theirs"), &rounds);
        assert_eq!(judged.promise, Some(Promise::Jobs));
        assert_eq!(
            judged.line(),
            "| memory, 50: ours / theirs | 10000 jobs/s | 5000 jobs/s | 0.50 - **0.50** - 2.00 | \
             at least 0.90 | **not reached**: 0.56 of what it has to be |"
        );
    }

    #[test]
    fn processor_time_is_that_of_a_job() {
        let judged = contest().judge(&Goal::ProcessorAtMost(3.5), &[vec![took(1)]]);
        assert_eq!(
            judged.line(),
            "| memory, 50: ours, CPU a job | - | - | 3.00 - **3.00** - 3.00 us | at most 3.50 us | \
             reached |"
        );
        assert_eq!(portion(&[took(1)], |shape| shape.claims), "10.0");
    }
}
