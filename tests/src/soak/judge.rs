//! Whether something leaks: what is held after all cycles against before, and in the later
//! cycles against the earlier; and whether there was the load that makes this mean something.
//!
//! Pure: samples in, a verdict out.
//!
//! # Invariants
//! 1. What grows while the first half of the cycles runs is warm-up, and not judged by itself.
//! 2. No limit depends on how fast the machine is.

use std::fmt;
use std::time::Duration;

use lifecycle_drill::Ledger;

use super::Sample;
use super::server::REQUESTS_AN_ORDER;

/// All that was seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Observed {
    /// How long the cycles were to take.
    pub time: Duration,
    /// Before the load, warmed up, when no server and no client is there.
    pub before: Sample,
    /// After each stop, while the next server is under load.
    pub samples: Vec<Sample>,
    /// When all servers and clients are gone.
    pub after: Sample,
    /// What became of the requests of the load.
    pub requests: Ledger,
    /// Jobs pushed.
    pub pushed: u64,
    /// Jobs that the queue has confirmed as done.
    pub done: u64,
    /// Reports of stops that were not clean, though nothing was held.
    pub unclean: Vec<String>,
    /// Stops at which something was held.
    pub burdens: u64,
    /// Those of them that had to cut it.
    pub cut: u64,
    /// What was held and ended otherwise than it should.
    pub otherwise: Vec<String>,
}

/// What is to be said of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    lines: Vec<Line>,
    about: String,
}

/// What is counted, how much more of it may be held later, and how much may be left.
struct Kind {
    what: &'static str,
    of: fn(&Sample) -> u64,
    may_grow_by: Option<u64>,
    may_leave: Option<u64>,
}

#[derive(Clone, Debug)]
struct Line {
    what: String,
    earlier: u64,
    later: u64,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    /// What is held later may be so much more.
    GrowsBy(u64),
    /// There may be none.
    None,
    /// As many as that, or more.
    AtLeast,
}

impl Observed {
    /// Judges it.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let mut lines: Vec<_> = self.left().chain(self.growth()).collect();
        lines.extend(self.load());
        let mut about = format!(
            "{} stops, {} of them with something held, which {} had to cut; {}; {} jobs",
            self.samples.len(),
            self.burdens,
            self.cut,
            self.requests,
            self.pushed
        );
        self.unclean.iter().chain(&self.otherwise).take(SHOWN).for_each(|report| {
            about.push_str("\n\n");
            about.push_str(report);
        });
        Verdict { lines, about }
    }

    /// After against before.
    fn left(&self) -> impl Iterator<Item = Line> {
        KINDS.iter().filter_map(|kind| {
            Some(Line {
                what: format!("{}, before and after", kind.what),
                earlier: (kind.of)(&self.before),
                later: (kind.of)(&self.after),
                bound: Bound::GrowsBy(kind.may_leave?),
            })
        })
    }

    /// The last quarter of the cycles against the third.
    fn growth(&self) -> impl Iterator<Item = Line> {
        let judged = &self.samples[self.samples.len() / 2..];
        let (earlier, later) = judged.split_at(judged.len() / 2);
        KINDS.iter().filter_map(|kind| {
            Some(Line {
                what: format!("{}, third and last quarter of the cycles", kind.what),
                earlier: middle(earlier, kind.of),
                later: middle(later, kind.of),
                bound: Bound::GrowsBy(kind.may_grow_by?),
            })
        })
    }

    /// That there was some, and that nothing of it was lost.
    fn load(&self) -> [Line; 7] {
        let none = |what: &str, count: u64| Line {
            what: what.to_owned(),
            earlier: 0,
            later: count,
            bound: Bound::None,
        };
        let least = |what: &str, least: u64, count: u64| Line {
            what: what.to_owned(),
            earlier: least,
            later: count,
            bound: Bound::AtLeast,
        };
        let requests = (self.time.as_secs() * REQUESTS_A_SECOND).max(REQUESTS_A_SECOND);
        let answered = self.requests.answered();
        [
            least("requests answered, at least", requests, answered),
            // Also those that were refused: the next server listens before the last one stops.
            none("requests not answered", self.requests.total() - answered),
            none("requests answered with an error", self.requests.server_errors()),
            least("jobs done, at least", requests.div_ceil(REQUESTS_AN_ORDER), self.done),
            none("jobs not done, or done twice", self.pushed.abs_diff(self.done)),
            none("stops that were not clean", self.unclean.len() as u64),
            none("held, and ended otherwise than it should", self.otherwise.len() as u64),
        ]
    }
}

impl Verdict {
    /// Whether nothing leaks and nothing was lost.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.lines.iter().all(Line::is_kept)
    }
}

impl Line {
    fn is_kept(&self) -> bool {
        match self.bound {
            Bound::GrowsBy(limit) => self.later <= self.earlier + limit,
            Bound::None => self.later == 0,
            Bound::AtLeast => self.later >= self.earlier,
        }
    }
}

/// A table.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}.\n\n| what | then | later | may grow by | |\n|---|---|---|---|---|",
            self.about
        )?;
        for line in &self.lines {
            let Line { what, earlier, later, bound } = line;
            let (limit, broken) = match bound {
                Bound::GrowsBy(limit) => (limit.to_string(), "**LEAKS**"),
                Bound::None => ("0".to_owned(), "**FAILS**"),
                Bound::AtLeast => ("any".to_owned(), "**FAILS**"),
            };
            let verdict = if line.is_kept() { "ok" } else { broken };
            writeln!(f, "| {what} | {earlier} | {later} | {limit} | {verdict} |")?;
        }
        Ok(())
    }
}

fn middle(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut sorted: Vec<_> = samples.iter().map(of).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

const KINDS: [Kind; 6] = [
    Kind {
        what: "memory allocated, bytes",
        of: |sample| sample.heap_bytes,
        may_grow_by: None,
        may_leave: Some(BYTES_LEFT),
    },
    Kind {
        what: "memory allocated, pieces",
        of: |sample| sample.allocations,
        may_grow_by: None,
        may_leave: Some(ALLOCATIONS_LEFT),
    },
    Kind {
        what: "memory in RAM, KiB",
        of: |sample| sample.memory_kib,
        may_grow_by: Some(MEMORY_KIB_MOST),
        may_leave: None,
    },
    Kind {
        what: "tasks",
        of: |sample| sample.tasks,
        may_grow_by: Some(COUNT_MOST),
        may_leave: Some(0),
    },
    Kind {
        what: "descriptors",
        of: |sample| sample.descriptors,
        may_grow_by: Some(COUNT_MOST),
        may_leave: Some(0),
    },
    Kind {
        what: "threads",
        of: |sample| sample.threads,
        may_grow_by: Some(COUNT_MOST),
        may_leave: Some(0),
    },
];
/// In total, however many cycles there were: room that a map or a list keeps.
const BYTES_LEFT: u64 = 64 * 1024;
const ALLOCATIONS_LEFT: u64 = 200;
/// The second line, for what no allocator counts (stacks, maps): the heap's own arenas go up and
/// down by as much.
const MEMORY_KIB_MOST: u64 = 4 * 1024;
/// The second line: jobs and connections that happen to be there, or not, on a busy machine.
const COUNT_MOST: u64 = 40;
/// What any machine serves, however busy it is with something else.
const REQUESTS_A_SECOND: u64 = 20;
/// Reports shown of stops that were not as they should be.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use lifecycle_drill::Fate;

    use super::*;

    /// Cycles in which that grows by so much each, and the rest goes up and down a little.
    fn observed(grow: impl Fn(&mut Sample, u64)) -> Observed {
        let before = Sample {
            heap_bytes: 900_000,
            allocations: 3_000,
            memory_kib: 9_000,
            tasks: 0,
            descriptors: 11,
            threads: 3,
        };
        let sample = |cycle: u64| {
            let mut sample = Sample {
                memory_kib: 20_000 + cycle % 7 * 30,
                tasks: 12 + cycle % 3,
                descriptors: 30 + cycle % 2,
                threads: 5,
                ..before
            };
            grow(&mut sample, cycle);
            sample
        };
        let mut requests = Ledger::new();
        for _ in 0..3 * REQUESTS_A_SECOND {
            requests.add(Fate::Answered { status: 200, close: false });
        }
        let (samples, after) = ((0..400).map(sample).collect(), before);
        let (time, pushed, done) = (Duration::from_secs(3), 7, 7);
        Observed { time, before, samples, after, requests, pushed, done, ..Observed::default() }
    }

    fn broken(observed: &Observed) -> Vec<String> {
        let lines = observed.judge().lines.into_iter().filter(|line| !line.is_kept());
        lines.map(|line| line.what).collect()
    }

    #[test]
    fn what_goes_up_and_down_does_not_leak() {
        let kept = observed(|_, _| ());
        assert_eq!(broken(&kept), Vec::<String>::new());
        let said = kept.judge().to_string();
        assert!(kept.judge().is_kept() && !said.contains("LEAKS") && !said.contains("FAILS"));
    }

    #[test]
    fn what_grows_with_every_cycle_leaks() {
        let of = |grow: fn(&mut Sample, u64)| broken(&observed(grow));
        let third = "third and last quarter of the cycles";
        assert_eq!(
            of(|one, cycle| one.memory_kib += cycle * 64),
            [format!("memory in RAM, KiB, {third}")]
        );
        assert_eq!(of(|one, cycle| one.tasks += cycle), [format!("tasks, {third}")]);
        assert_eq!(of(|one, cycle| one.descriptors += cycle), [format!("descriptors, {third}")]);
        assert_eq!(of(|one, cycle| one.threads += cycle), [format!("threads, {third}")]);
    }

    #[test]
    fn what_is_left_at_the_end_leaks_however_little_it_is() {
        let each: [fn(&mut Sample); 3] =
            [|one| one.tasks += 1, |one| one.descriptors += 1, |one| one.threads += 1];
        for grow in each {
            let mut left = observed(|_, _| ());
            grow(&mut left.after);
            assert!(!left.after.is_back_at(&left.before));
            assert_eq!(broken(&left).len(), 1, "{left:?}");
            assert!(!left.judge().is_kept() && left.judge().to_string().contains("LEAKS"));
        }
    }

    #[test]
    fn memory_that_is_left_leaks_beyond_a_little() {
        let mut left = observed(|_, _| ());
        left.after.heap_bytes += BYTES_LEFT;
        left.after.allocations += ALLOCATIONS_LEFT;
        assert_eq!(broken(&left), Vec::<String>::new());
        left.after.heap_bytes += 1;
        assert_eq!(broken(&left), ["memory allocated, bytes, before and after"]);
        left.after = Sample { allocations: left.after.allocations + 1, ..left.before };
        assert_eq!(broken(&left), ["memory allocated, pieces, before and after"]);
    }

    #[test]
    fn nothing_may_be_lost_on_the_way() {
        let mut lost = observed(|_, _| ());
        lost.requests.add(Fate::EofBeforeResponse);
        lost.requests.add(Fate::Answered { status: 503, close: true });
        lost.done -= 1;
        lost.unclean.push("exit code 3".to_owned());
        lost.otherwise.push("Events: truncated".to_owned());
        assert_eq!(
            broken(&lost),
            [
                "requests not answered",
                "requests answered with an error",
                "jobs not done, or done twice",
                "stops that were not clean",
                "held, and ended otherwise than it should"
            ]
        );
        assert!(lost.judge().to_string().contains("FAILS"));
    }

    /// What never reached a server is no load, though nothing of it was lost.
    #[test]
    fn a_soak_without_load_fails() {
        for fate in [
            Fate::Refused,
            Fate::ConnectTimedOut,
            Fate::ResetInConnect,
            Fate::NotSent,
            Fate::NotProcessed,
            Fate::NoLocalPort,
        ] {
            let mut one = observed(|_, _| ());
            one.requests.add(fate);
            assert_eq!(one.requests.lost(), 0);
            assert_eq!(broken(&one), ["requests not answered"], "{fate:?}");
        }
        let mut idle = observed(|_, _| ());
        (idle.requests, idle.pushed, idle.done) = (Ledger::new(), 0, 0);
        assert_eq!(broken(&idle), ["requests answered, at least", "jobs done, at least"]);
    }
}
