//! What the ledgers of all processes show: a table of promises, kept or broken.
//!
//! Pure: lives, pushed jobs and the queue's own counts in, rows out.
//!
//! # Definitions
//! 1. An execution lasts from its start to its end or stop, or until its process was seen to be
//!    gone. Two of one job overlap when both last at one moment.
//! 2. A job is *stranded* when a process that ended in an orderly way had claimed it and neither
//!    settled nor returned it. Where nobody was killed, also by an attempt that was counted
//!    though no process has seen the job: its claim was dropped.
//! 3. A job is *lost* when nobody has acknowledged it in the end. A process that was killed may
//!    have acknowledged one that it had ended and not lived to write it down.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::ledger::{Event, What};
use super::said::Said;

/// One worker process, from its start to its end.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) events: Vec<Event>,
    pub(super) end: End,
    pub(super) signalled: u64,
    pub(super) gone: u64,
    pub(super) code: Option<i32>,
    pub(super) said: Option<Said>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    Told,
}

/// All that is judged.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pushed: HashSet<String>,
    pub(super) lives: Vec<Life>,
    /// The queue's own counts in the end.
    pub(super) done: u64,
    pub(super) attempts: u64,
    pub(super) left: u64,
    pub(super) grace: Duration,
    pub(super) lease: Duration,
}

/// A promise, and what was measured.
#[derive(Clone, Debug)]
struct Row {
    promise: String,
    measured: String,
    /// `None`: only to be known.
    is_kept: Option<bool>,
}

/// A table of promises.
#[derive(Clone, Debug, Default)]
#[must_use = "it says what is broken"]
pub struct Verdict {
    rows: Vec<Row>,
    details: Vec<String>,
}

impl Verdict {
    /// Whether every promise is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.rows.iter().all(|row| row.is_kept != Some(false))
    }

    pub(super) fn add(&mut self, promise: &str, measured: impl fmt::Display, is_kept: bool) {
        let (promise, measured) = (promise.to_owned(), measured.to_string());
        self.rows.push(Row { promise, measured, is_kept: Some(is_kept) });
    }

    fn tell(&mut self, what: &str, measured: impl fmt::Display) {
        let (promise, measured) = (what.to_owned(), measured.to_string());
        self.rows.push(Row { promise, measured, is_kept: None });
    }

    /// None may be; the first few are shown.
    fn none(&mut self, promise: &str, found: Vec<String>) {
        self.add(promise, found.len(), found.is_empty());
        self.details.extend(found.into_iter().take(SHOWN).map(|one| format!("{promise}: {one}")));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| promise | measured | |\n|---|---|---|")?;
        for Row { promise, measured, is_kept } in &self.rows {
            let kept = is_kept.map_or("", |is_kept| if is_kept { "kept" } else { "**BROKEN**" });
            writeln!(f, "| {promise} | {measured} | {kept} |")?;
        }
        self.details.iter().try_for_each(|line| writeln!(f, "\n{line}"))
    }
}

/// One execution of a job.
#[derive(Clone, Copy, Debug)]
struct Execution {
    life: usize,
    attempt: u32,
    began: u64,
    ended: u64,
    has_ended: bool,
    is_settled: bool,
}

impl Run {
    pub(super) fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let executions = self.executions();
        let settled = self.settled();
        let count = |outcome: &str| settled.values().flatten().filter(|it| **it == outcome).count();
        let started: usize = executions.values().map(Vec::len).sum();
        verdict.add("jobs pushed", self.pushed.len(), !self.pushed.is_empty());
        verdict.add("executions begun", started, started > 0);
        verdict.tell("returned by workers that left", count("returned"));
        verdict.none("lost", self.lost(&executions, &settled));
        let (stranded, unconfirmed) = self.stranded(&executions);
        verdict.tell("returned, the confirmation too late to be seen", unconfirmed);
        verdict.none("stranded by an orderly exit", stranded);
        verdict.none("executions that overlap", overlaps(&executions));
        let twice =
            settled.iter().filter(|(_, all)| all.iter().filter(|it| **it == "done").count() > 1);
        verdict
            .none("acknowledged twice", twice.map(|(id, all)| format!("{id}: {all:?}")).collect());
        verdict.add("still in the queue", self.left, self.left == 0);
        self.judge_attempts(&executions, &mut verdict);
        self.judge_exits(&mut verdict);
        self.judge_rescues(&executions, &mut verdict);
        verdict
    }

    fn has_killed(&self) -> bool {
        self.lives.iter().any(|life| life.end == End::Killed)
    }

    /// Each job's executions, in the order of their starts.
    fn executions(&self) -> BTreeMap<&str, Vec<Execution>> {
        let mut all: BTreeMap<&str, Vec<Execution>> = BTreeMap::new();
        for (at, life) in self.lives.iter().enumerate() {
            let mut open: HashMap<&str, Vec<Execution>> = HashMap::new();
            for event in &life.events {
                let here = open.entry(&event.id).or_default();
                match &event.what {
                    What::Start { attempt, .. } => here.push(Execution {
                        life: at,
                        attempt: *attempt,
                        began: event.at,
                        ended: life.gone,
                        has_ended: false,
                        is_settled: false,
                    }),
                    What::End | What::Stop => {
                        if let Some(last) = here.last_mut() {
                            last.ended = event.at;
                            last.has_ended = event.what == What::End;
                        }
                    }
                    What::Settled(_) => {
                        if let Some(first) = here.iter_mut().find(|one| !one.is_settled) {
                            first.is_settled = true;
                        }
                    }
                }
            }
            for (id, mut here) in open {
                all.entry(id).or_default().append(&mut here);
            }
        }
        all.values_mut().for_each(|all| all.sort_by_key(|one| one.began));
        all
    }

    fn settled(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for event in self.lives.iter().flat_map(|life| &life.events) {
            if let What::Settled(outcome) = &event.what {
                all.entry(&event.id).or_default().push(outcome);
            }
        }
        all
    }

    fn lost(
        &self,
        executions: &BTreeMap<&str, Vec<Execution>>,
        settled: &BTreeMap<&str, Vec<&str>>,
    ) -> Vec<String> {
        let is_done = |id: &str| settled.get(id).is_some_and(|all| all.contains(&"done"));
        let unseen = |id: &str| {
            let last = executions.get(id).and_then(|all| all.last());
            last.is_some_and(|one| one.has_ended && self.lives[one.life].end == End::Killed)
        };
        let mut lost: Vec<_> =
            self.pushed.iter().filter(|id| !is_done(id) && !unseen(id)).cloned().collect();
        lost.sort();
        if self.done != self.pushed.len() as u64 {
            lost.push(format!("the queue has counted {} done of {}", self.done, self.pushed.len()));
        }
        lost
    }

    /// What an orderly exit left: stranded, or returned though the answer came too late to be
    /// seen (the next start has the same attempt's number).
    fn stranded(&self, executions: &BTreeMap<&str, Vec<Execution>>) -> (Vec<String>, usize) {
        let (mut found, mut unconfirmed) = (Vec::new(), 0);
        for (id, all) in executions {
            let mut seen = 0;
            for (at, one) in all.iter().enumerate() {
                let life = &self.lives[one.life];
                if one.is_settled || life.end == End::Killed {
                    continue;
                }
                if all.get(at + 1).is_some_and(|next| next.attempt == one.attempt) {
                    unconfirmed += 1;
                    continue;
                }
                seen += 1;
                let (attempt, said) = (one.attempt, life.said);
                found.push(format!("{id}, attempt {attempt}, by process {}: {said:?}", one.life));
            }
            let most = all.iter().map(|one| one.attempt).max().unwrap_or(1);
            let unseen = (most as usize - 1).saturating_sub(seen);
            if !self.has_killed() {
                found.extend((0..unseen).map(|_| format!("{id}, by a claim that nobody has seen")));
            }
        }
        (found, unconfirmed)
    }

    fn judge_attempts(&self, executions: &BTreeMap<&str, Vec<Execution>>, verdict: &mut Verdict) {
        if self.has_killed() {
            let most = executions.values().flatten().map(|one| one.attempt).max().unwrap_or(0);
            verdict.tell("attempts of one job, at most", most);
            return;
        }
        let counted = executions
            .iter()
            .filter(|(_, all)| all.iter().any(|one| one.attempt > 1))
            .map(|(id, all)| format!("{id}: {} of them", all.len()));
        verdict.none("attempts counted for a return", counted.collect());
        let measured = format!("{} of {}", self.attempts, self.done);
        verdict.add("the queue's attempts are the jobs done", measured, self.attempts == self.done);
    }

    fn judge_exits(&self, verdict: &mut Verdict) {
        let mut codes: BTreeMap<String, usize> = BTreeMap::new();
        for life in &self.lives {
            let code = life.code.map_or("killed".to_owned(), |code| code.to_string());
            *codes.entry(code).or_default() += 1;
        }
        let codes: Vec<_> = codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        verdict.tell("exits by code", codes.join(", "));
        let told = || self.lives.iter().enumerate().filter(|(_, life)| life.end == End::Told);
        let wrong =
            told().filter_map(|(at, life)| Some(format!("process {at}: {}", life.untruth()?)));
        verdict.none("exit codes and reports that are not true", wrong.collect());
        let longest = told().map(|(_, life)| life.gone - life.signalled).max().unwrap_or(0);
        let longest = Duration::from_nanos(longest);
        let promise = format!("longest from SIGTERM to exit, of {} ms", self.grace.as_millis());
        verdict.add(&promise, format!("{} ms", longest.as_millis()), longest < self.grace);
    }

    /// From a kill to the next start of what had been under way.
    fn judge_rescues(&self, executions: &BTreeMap<&str, Vec<Execution>>, verdict: &mut Verdict) {
        if !self.has_killed() {
            return;
        }
        let (mut times, mut unseen) = (Vec::new(), 0);
        for all in executions.values() {
            for (one, next) in all.iter().zip(all.iter().skip(1)) {
                let life = &self.lives[one.life];
                if life.end == End::Killed && !one.is_settled && next.life != one.life {
                    let claims = next.attempt.saturating_sub(one.attempt).max(1);
                    // A worker that was killed between its claim and its start has a lease too.
                    let before = self.lease * (claims - 1);
                    unseen += claims - 1;
                    let time = Duration::from_nanos(next.began.saturating_sub(life.signalled));
                    times.push(time.saturating_sub(before));
                }
            }
        }
        let longest = times.iter().copied().max().unwrap_or_default();
        let most = self.lease + SWEEP + SLACK;
        verdict.tell("rescued from killed workers", times.len());
        verdict.tell("claimed in between by one killed before the start", unseen);
        let promise = format!("longest from a kill to the next start, of {} ms", most.as_millis());
        verdict.add(&promise, format!("{} ms", longest.as_millis()), longest <= most);
    }
}

impl Life {
    /// What its exit code or its report says and its ledger does not, or the other way round.
    fn untruth(&self) -> Option<String> {
        let Some(said) = self.said else { return Some("no report".into()) };
        let is_right = match self.code {
            Some(0) => !said.is_cut() && !said.has_cut,
            Some(3) => said.has_cut,
            _ => false,
        };
        let after = |event: &&Event| event.at >= self.signalled;
        let settled = |outcome: &str| {
            let all = self.events.iter().filter(after);
            all.filter(|event| event.what == What::Settled(outcome.to_owned())).count() as u64
        };
        let (returned, said_returned) =
            (settled("returned"), said.returned_started + said.returned_unstarted);
        let (left, said_left) = (settled("left_to_lease") + settled("lost"), said.left_to_lease);
        let is_told = returned == said_returned && left <= said_left;
        (!is_right || !is_told).then(|| {
            format!("code {:?}, {returned} returned, {left} left, but it says {said:?}", self.code)
        })
    }
}

fn overlaps(executions: &BTreeMap<&str, Vec<Execution>>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, all) in executions {
        let mut before: Option<&Execution> = None;
        for one in all {
            if let Some(before) = before.filter(|before| before.ended > one.began) {
                let by = Duration::from_nanos(before.ended - one.began);
                found.push(format!("{id}: process {} and {} by {by:?}", before.life, one.life));
            }
            if before.is_none_or(|before| before.ended < one.ended) {
                before = Some(one);
            }
        }
    }
    found
}

/// How often the slowest queue looks for leases that have ended.
const SWEEP: Duration = Duration::from_secs(1);
/// What a free slot and a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);
const SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn start(id: &str, attempt: u32, at: u64) -> Event {
        Event::new(id, What::Start { attempt, returns: 0 }, at * SECOND)
    }

    fn end(id: &str, at: u64) -> Event {
        Event::new(id, What::End, at * SECOND)
    }

    fn settled(id: &str, outcome: &str, at: u64) -> Event {
        Event::new(id, What::Settled(outcome.into()), at * SECOND)
    }

    fn life(events: Vec<Event>, end: End, signalled: u64, gone: u64) -> Life {
        let code = (end == End::Told).then_some(0);
        let (signalled, gone) = (signalled * SECOND, gone * SECOND);
        Life { events, end, signalled, gone, code, said: Some(Said::default()) }
    }

    fn run(pushed: &[&str], lives: Vec<Life>) -> Run {
        let pushed: HashSet<_> = pushed.iter().map(|id| (*id).to_owned()).collect();
        let (done, attempts) = (pushed.len() as u64, pushed.len() as u64);
        let (grace, lease) = (Duration::from_secs(3), Duration::from_secs(5));
        Run { pushed, lives, done, attempts, left: 0, grace, lease }
    }

    fn broken(run: &Run) -> Vec<String> {
        let rows = run.judge().rows.into_iter().filter(|row| row.is_kept == Some(false));
        rows.map(|row| row.promise).collect()
    }

    fn well_done(id: &str, attempt: u32, at: u64) -> Vec<Event> {
        vec![start(id, attempt, at), end(id, at + 1), settled(id, "done", at + 1)]
    }

    #[test]
    fn what_is_done_once_is_right() {
        let run = run(&["a"], vec![life(well_done("a", 1, 1), End::Told, 5, 6)]);
        assert!(broken(&run).is_empty(), "{}", run.judge());
        assert!(run.judge().is_kept());
    }

    #[test]
    fn a_job_that_nobody_acknowledges_is_lost() {
        let mut run = run(&["a", "b"], vec![life(well_done("a", 1, 1), End::Told, 5, 6)]);
        assert_eq!(broken(&run), ["lost"]);
        run.lives.push(life(vec![start("b", 1, 1), end("b", 2)], End::Killed, 3, 3));
        assert!(broken(&run).is_empty(), "it may have been acknowledged: {}", run.judge());
        run.done = 1;
        assert_eq!(broken(&run), ["lost"], "the queue knows better");
    }

    #[test]
    fn a_claim_that_is_dropped_is_stranded_seen_or_not() {
        let dropped = life(vec![start("a", 1, 1)], End::Told, 2, 2);
        let again = life(well_done("a", 2, 8), End::Told, 12, 13);
        let strands = ["stranded by an orderly exit", "attempts counted for a return"];
        assert_eq!(broken(&run(&["a"], vec![dropped, again.clone()])), strands);
        let unseen = life(Vec::new(), End::Told, 2, 2);
        assert_eq!(broken(&run(&["a"], vec![unseen, again])), strands);
    }

    #[test]
    fn two_executions_at_once_overlap() {
        let one = life(well_done("a", 1, 1), End::Told, 5, 6);
        let mut two = life(vec![start("a", 1, 1), end("a", 3)], End::Told, 5, 6);
        two.events.push(settled("a", "returned", 6));
        two.said = Some(Said { returned_unstarted: 1, ..Said::default() });
        assert_eq!(broken(&run(&["a"], vec![one.clone(), two])), ["executions that overlap"]);
        let twice = ["executions that overlap", "acknowledged twice"];
        assert_eq!(broken(&run(&["a"], vec![one.clone(), one])), twice);
    }

    #[test]
    fn a_killed_worker_has_a_lease_and_a_sweep() {
        let killed = life(vec![start("a", 1, 1)], End::Killed, 2, 2);
        let rescue = |at| vec![killed.clone(), life(well_done("a", 2, at), End::Told, 20, 21)];
        assert!(broken(&run(&["a"], rescue(8))).is_empty());
        let late = "longest from a kill to the next start, of 7000 ms";
        assert_eq!(broken(&run(&["a"], rescue(12))), [late]);
        let killed_twice = life(well_done("a", 3, 12), End::Told, 20, 21);
        assert!(broken(&run(&["a"], vec![killed.clone(), killed_twice])).is_empty());
    }

    #[test]
    fn an_exit_says_the_truth_and_comes_in_time() {
        let of = |code, said| {
            let life = Life { code, said, ..life(well_done("a", 1, 1), End::Told, 5, 6) };
            broken(&run(&["a"], vec![life]))
        };
        let untrue = ["exit codes and reports that are not true"];
        let cut = Said { left_to_lease: 1, has_cut: true, ..Said::default() };
        assert_eq!(of(Some(0), Some(cut)), untrue);
        assert_eq!(of(Some(3), Some(Said::default())), untrue);
        assert_eq!(of(Some(0), None), untrue);
        assert_eq!(of(Some(3), Some(Said { returned_started: 1, ..cut })), untrue);
        assert!(of(Some(3), Some(cut)).is_empty());
        let late = life(well_done("a", 1, 1), End::Told, 5, 9);
        assert_eq!(broken(&run(&["a"], vec![late])), ["longest from SIGTERM to exit, of 3000 ms"]);
    }
}
