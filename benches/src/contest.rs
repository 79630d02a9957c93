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
use crate::sides::{Broken, Spoilt, interleaved};

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
    /// At least so many times the jobs a second of whoever was the fastest of those sides in
    /// that round.
    AtLeast(f64, &'static [&'static str]),
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
    /// The first of `sides` is ours, and has to reach the goals.
    #[must_use]
    pub fn new(name: String, sides: Vec<Side>, goals: Vec<Goal>) -> Self {
        Self { name, sides, goals, promise: |_| None }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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

/// Runs all sides of one contest after the other in so many rounds each, and prints what came out.
/// The rows of a contest are recorded as it ends.
///
/// `with`: versions. Whether nobody broke.
#[must_use]
pub fn compete(title: &str, with: &str, contests: Vec<Contest>, rounds: usize) -> bool {
    println!("### {title}\n\n{}; {with}.\nMedians of {rounds} interleaved rounds.\n", machine());
    record_with(&format!("{title}: {with}"));
    println!(
        "| queue, jobs at a time | subject | jobs/s, min - median - max | CPU, us a job | jobs a claim | jobs an ack |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut judged, mut is_whole) = (Vec::new(), true);
    for mut contest in contests {
        let took = interleaved(rounds, &mut contest.sides, |side| side.name, |side| (side.run)());
        for (side, took) in contest.sides.iter().zip(&took) {
            println!("| {} | {} | {} |", contest.name, side.name, side_of_table(took));
        }
        is_whole &= took.iter().all(Result::is_ok);
        let rows: Vec<_> = contest.goals.iter().map(|goal| contest.judge(goal, &took)).collect();
        record(&rows);
        judged.extend(rows);
    }
    println!("\n| row | ours | opponent | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    is_whole
}

fn side_of_table(took: &Result<Vec<Took>, Broken>) -> String {
    let took = match took {
        Ok(took) => took,
        Err(Broken { why, .. }) => return format!("broke: {why} | - | - | -"),
    };
    let Spread { min, median, max } = Spread::of(&each(took, Took::rate));
    let used = Spread::of(&each(took, Took::used_each)).median;
    let (claims, acks) = (portion(took, |s| s.claims), portion(took, |s| s.acks));
    format!("{min:.0} - **{median:.0}** - {max:.0} | {used:.2} | {claims} | {acks}")
}

impl Contest {
    fn judge(&self, goal: &Goal, took: &[Result<Vec<Took>, Broken>]) -> Record {
        let (name, ours) = (&self.name, self.sides[0].name);
        let (row, reach) = match goal {
            Goal::AtLeast(least, theirs) => {
                let theirs = match theirs {
                    [one] => (*one).to_owned(),
                    all => format!("the fastest of: {}", all.join(", ")),
                };
                (format!("{name}: {ours} / {theirs}"), format!("at least {least:.2}"))
            }
            Goal::ProcessorAtMost(most) => {
                (format!("{name}: {ours}, CPU a job"), format!("at most {most:.2} us"))
            }
        };
        let judged = match self.figures(goal, took) {
            Err(why) => Record::spoilt(row, reach, &why),
            Ok((ours, theirs)) => judged(goal, row, reach, &ours, &theirs),
        };
        Record { promise: (self.promise)(goal), ..judged }
    }

    /// Ours and the fastest of theirs, round by round, of what that goal is about.
    fn figures(
        &self,
        goal: &Goal,
        took: &[Result<Vec<Took>, Broken>],
    ) -> Result<(Vec<f64>, Vec<f64>), Spoilt> {
        let ours = took[0].as_ref().map_err(|broken| Spoilt::Ours(broken.clone()))?;
        let Goal::AtLeast(_, names) = goal else {
            return Ok((each(ours, Took::used_each), Vec::new()));
        };
        let mut fastest = vec![0.0; ours.len()];
        for name in *names {
            let at = self.sides.iter().position(|side| side.name == *name);
            let at = at.unwrap_or_else(|| panic!("no side {name:?}"));
            let theirs = took[at].as_ref().map_err(|broken| Spoilt::Theirs(broken.clone()))?;
            for (fastest, rate) in fastest.iter_mut().zip(each(theirs, Took::rate)) {
                *fastest = rate.max(*fastest);
            }
        }
        Ok((each(ours, Took::rate), fastest))
    }
}

fn judged(goal: &Goal, row: String, reach: String, ours: &[f64], theirs: &[f64]) -> Record {
    match goal {
        Goal::AtLeast(least, _) => {
            let ratio = Spread::of_ratios(ours, theirs);
            let good = ratio.median >= *least;
            let verdict = reached(good, ratio.median / least, "of what it has to be");
            let sides =
                [ours, theirs].map(|rates| format!("{:.0} jobs/s", Spread::of(rates).median));
            let judged = Record::new(row, &Ok(ratio)).judged(reach, (good, verdict));
            Record { sides: sides.into(), ..judged }
        }
        Goal::ProcessorAtMost(most) => {
            let used = Spread::of(ours);
            let good = used.median <= *most;
            let verdict = reached(good, used.median / most, "times what it may be");
            let judged = Record::new(row, &Ok(used)).judged(reach, (good, verdict));
            Record { unit: "us".to_owned(), ..judged }
        }
    }
}

pub(crate) fn reached(is_reached: bool, share: f64, words: &str) -> String {
    if is_reached { "reached".to_owned() } else { format!("**not reached**: {share:.3} {words}") }
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
        let sides = ["ours", "theirs", "others"].map(|name| Side::new(name, || took(1)));
        Contest::new("memory, 50".to_owned(), sides.into(), Vec::new()).shows(|goal| match goal {
            Goal::AtLeast(..) => Some(Promise::Jobs),
            Goal::ProcessorAtMost(_) => None,
        })
    }

    #[test]
    fn a_rate_is_judged_by_the_middle_of_the_ratios() {
        let rounds =
            [vec![took(10), took(10), took(40)], vec![took(20), took(5), took(20)]].map(Ok);
        let judged = contest().judge(&Goal::AtLeast(0.9, &["theirs"]), &rounds);
        assert_eq!(judged.promise, Some(Promise::Jobs));
        assert_eq!(
            judged.line(),
            "| memory, 50: ours / theirs | 10000 jobs/s | 5000 jobs/s | 0.500 - **0.500** - 2.000 | \
             at least 0.90 | **not reached**: 0.556 of what it has to be |"
        );
    }

    #[test]
    fn ours_is_held_against_whoever_is_the_fastest_in_that_round() {
        let rounds = [
            vec![took(10), took(10), took(10)],
            vec![took(20), took(5), took(10)],
            vec![took(40), took(40), took(40)],
        ];
        let judged = contest().judge(&Goal::AtLeast(0.9, &["theirs", "others"]), &rounds.map(Ok));
        assert_eq!(judged.row, "memory, 50: ours / the fastest of: theirs, others");
        assert_eq!(judged.figures(), "0.500 - **1.000** - 2.000");
    }

    #[test]
    fn a_side_that_broke_spoils_what_it_takes_part_in_alone() {
        let broke = || Err(Broken { who: "x".to_owned(), why: "it was reset".to_owned() });
        let (goal, whole) = (Goal::AtLeast(0.9, &["theirs"]), || Ok(vec![took(10)]));
        let verdict = |rounds: [_; 3]| {
            let judged = contest().judge(&goal, &rounds);
            (judged.is_reached, judged.verdict)
        };
        let ours = (Some(false), "**not reached**: x: it was reset".to_owned());
        assert_eq!(verdict([broke(), whole(), whole()]), ours);
        let theirs = (None, "not measured: x: it was reset".to_owned());
        assert_eq!(verdict([whole(), broke(), whole()]), theirs);
        assert_eq!(verdict([whole(), whole(), broke()]), (Some(true), "reached".to_owned()));
        let used = contest().judge(&Goal::ProcessorAtMost(3.5), &[whole(), broke(), broke()]);
        assert_eq!(used.is_reached, Some(true));
        assert_eq!(side_of_table(&broke()), "broke: it was reset | - | - | -");
    }

    #[test]
    fn processor_time_is_that_of_a_job() {
        let judged = contest().judge(&Goal::ProcessorAtMost(3.5), &[Ok(vec![took(1)])]);
        assert_eq!(
            judged.line(),
            "| memory, 50: ours, CPU a job | - | - | 3.000 - **3.000** - 3.000 us | at most 3.50 us | \
             reached |"
        );
        assert_eq!(portion(&[took(1)], |shape| shape.claims), "10.0");
    }
}
