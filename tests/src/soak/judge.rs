//! Whether something leaks: what is held in the later cycles against what was in the earlier.
//!
//! Pure: samples in, a verdict out.
//!
//! # Invariants
//! 1. What grows while the first half of the cycles runs is warm-up, and not judged.

use std::fmt;

use lifecycle_drill::Ledger;

use super::Sample;

/// All that was seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Observed {
    /// Before the load, when one server had come and gone.
    pub before: Sample,
    /// After each stop, while the next server is under load.
    pub samples: Vec<Sample>,
    /// When all servers and clients are gone.
    pub after: Sample,
    /// What became of the requests.
    pub requests: Ledger,
    /// Jobs pushed.
    pub pushed: u64,
    /// Jobs that the queue has confirmed as done.
    pub done: u64,
    /// Reports of stops that were not clean.
    pub unclean: Vec<String>,
}

/// What is to be said of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    lines: Vec<Line>,
    about: String,
}

/// What is counted, and how much more of it may be held later.
struct Kind {
    what: &'static str,
    of: fn(&Sample) -> u64,
    may_grow_by: u64,
}

#[derive(Clone, Debug)]
struct Line {
    what: String,
    earlier: u64,
    later: u64,
    limit: u64,
}

impl Observed {
    /// Judges it.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let judged = &self.samples[self.samples.len() / 2..];
        let (earlier, later) = judged.split_at(judged.len() / 2);
        let growth = KINDS.iter().map(|kind| Line {
            what: format!("{}, third and last quarter of the cycles", kind.what),
            earlier: middle(earlier, kind.of),
            later: middle(later, kind.of),
            limit: kind.may_grow_by,
        });
        // Memory apart, which is not given back to the last byte.
        let left = KINDS.iter().skip(1).map(|kind| Line {
            what: format!("{}, before and after", kind.what),
            earlier: (kind.of)(&self.before),
            later: (kind.of)(&self.after),
            limit: 0,
        });
        let none = |what: &str, count: u64| Line {
            what: what.to_owned(),
            earlier: 0,
            later: count,
            limit: 0,
        };
        let counts = [
            none("requests lost", self.requests.lost()),
            none("requests answered with an error", self.requests.server_errors()),
            none("jobs not done, or done twice", self.pushed.abs_diff(self.done)),
            none("stops that were not clean", self.unclean.len() as u64),
        ];
        let mut about =
            format!("{} stops; {}; {} jobs", self.samples.len(), self.requests, self.pushed);
        self.unclean.iter().take(SHOWN).for_each(|report| {
            about.push('\n');
            about.push_str(report);
        });
        Verdict { lines: growth.chain(left).chain(counts).collect(), about }
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
        self.later <= self.earlier + self.limit
    }
}

/// A table.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n\n| what | then | later | may grow by | |\n|---|---|---|---|---|",
            self.about
        )?;
        for line in &self.lines {
            let Line { what, earlier, later, limit } = line;
            let verdict = if line.is_kept() { "ok" } else { "**LEAKS**" };
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

const KINDS: [Kind; 4] = [
    Kind { what: "memory, KiB", of: |sample| sample.memory_kib, may_grow_by: MEMORY_KIB_MOST },
    Kind { what: "tasks", of: |sample| sample.tasks, may_grow_by: COUNT_MOST },
    Kind { what: "descriptors", of: |sample| sample.descriptors, may_grow_by: COUNT_MOST },
    Kind { what: "threads", of: |sample| sample.threads, may_grow_by: COUNT_MOST },
];
/// What the heap's own arenas do from one half to the other. In 1000 cycles, the halves are 250
/// apart: a leak of 6 KiB a cycle is found.
const MEMORY_KIB_MOST: u64 = 1536;
/// Connections that happen to be open, or not.
const COUNT_MOST: u64 = 4;
/// Reports shown of stops that were not clean.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use lifecycle_drill::Fate;

    use super::*;

    /// Cycles in which that grows by so much each, and the rest goes up and down a little.
    fn observed(grow: impl Fn(&mut Sample, u64)) -> Observed {
        let sample = |cycle: u64| {
            let mut sample = Sample {
                memory_kib: 20_000 + cycle % 7 * 30,
                tasks: 12 + cycle % 3,
                descriptors: 30 + cycle % 2,
                threads: 5,
            };
            grow(&mut sample, cycle);
            sample
        };
        let before = Sample { memory_kib: 9_000, tasks: 0, descriptors: 11, threads: 3 };
        let (samples, after) = ((0..40).map(sample).collect(), before);
        Observed { before, samples, after, pushed: 7, done: 7, ..Observed::default() }
    }

    fn leaks(observed: &Observed) -> Vec<String> {
        let lines = observed.judge().lines.into_iter().filter(|line| !line.is_kept());
        lines.map(|line| line.what).collect()
    }

    #[test]
    fn what_goes_up_and_down_does_not_leak() {
        let kept = observed(|_, _| ());
        assert_eq!(leaks(&kept), Vec::<String>::new());
        assert!(kept.judge().is_kept() && !kept.judge().to_string().contains("LEAKS"));
    }

    #[test]
    fn what_grows_with_every_cycle_leaks() {
        let of = |grow: fn(&mut Sample, u64)| leaks(&observed(grow));
        let third = "third and last quarter of the cycles";
        assert_eq!(
            of(|one, cycle| one.memory_kib += cycle * 512),
            [format!("memory, KiB, {third}")]
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
            assert_eq!(leaks(&left).len(), 1, "{left:?}");
            assert!(!left.judge().is_kept() && left.judge().to_string().contains("LEAKS"));
        }
    }

    #[test]
    fn nothing_may_be_lost_on_the_way() {
        let mut lost = observed(|_, _| ());
        lost.requests.add(Fate::EofBeforeResponse);
        lost.requests.add(Fate::Refused);
        lost.done -= 1;
        lost.unclean.push("exit code 3".to_owned());
        assert_eq!(
            leaks(&lost),
            ["requests lost", "jobs not done, or done twice", "stops that were not clean"]
        );
    }
}
