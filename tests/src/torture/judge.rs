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
//! 4. Where a return counts as an attempt (`Capabilities`), a job's attempts are its claims: those
//!    that began and those that were returned before. One more is a claim that was dropped.
//! 5. Where a returned job lands behind the others it is written anew, and then ended. A process
//!    that is killed in between leaves it *twice*: it was told to stop, and did not live to write
//!    down what became of the job, or the copy has a return that nobody has written down. Such
//!    jobs are counted apart.
//! 6. Where the connection is the lease, the broker knows of a kill before who waits for the
//!    process: an execution then lasts until the kill.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use lifecycle_worker::{Attempt, Capabilities, Place};

use super::execution::{Execution, claims, count, nanos, overlaps};
use super::ledger::{Event, What};
use super::said::Said;
use super::verdict::Verdict;

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
    /// Told, and killed before it was gone.
    Cut,
    Killed,
    Told,
}

/// What a queue itself has counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) done: u64,
    pub(super) attempts: u64,
}

/// All that is judged.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pushed: HashSet<String>,
    pub(super) lives: Vec<Life>,
    /// The queue's own counts in the end, if it has any.
    pub(super) counts: Option<Counts>,
    /// What is still in the queue: ids, where it can tell.
    pub(super) left: Vec<String>,
    pub(super) grace: Duration,
    pub(super) can: Capabilities,
}

impl Run {
    pub(super) fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let executions = self.executions();
        let settled = self.settled();
        let started: usize = executions.values().map(Vec::len).sum();
        verdict.add("jobs pushed", self.pushed.len(), !self.pushed.is_empty());
        verdict.add("executions begun", started, started > 0);
        let returned: usize = settled.values().map(|all| count(all, "returned")).sum();
        verdict.tell("returned by workers that left", returned);
        verdict.none("lost", self.lost(&executions, &settled));
        let (stranded, unconfirmed) = self.stranded(&executions, &settled);
        verdict.tell("returned, the confirmation too late to be seen", unconfirmed);
        verdict.none("stranded by an orderly exit", stranded);
        let left = |life: &Life| life.said.map_or(0, |said| said.left_to_lease);
        let told = self.lives.iter().filter(|life| life.end == End::Told);
        verdict.tell("left to their lease, as their workers say", told.map(left).sum::<u64>());
        let copied = self.copied(&executions, &settled);
        let is_once = |id: &str| !copied.contains(id);
        let overlapping = overlaps(&executions).into_iter().filter(|(id, _)| is_once(id));
        verdict.none("executions that overlap", overlapping.map(|(_, text)| text).collect());
        let is_twice = |all: &[&str]| count(all, "done") > 1;
        let twice = settled.iter().filter(|(id, all)| is_twice(all) && is_once(id));
        verdict
            .none("acknowledged twice", twice.map(|(id, all)| format!("{id}: {all:?}")).collect());
        let left = self.left.iter().filter(|id| is_once(id)).cloned().collect();
        verdict.none("still in the queue", left);
        if self.returns_by_copy() && self.has_killed() {
            let seen = copied.iter().filter(|id| {
                settled.get(**id).is_some_and(|all| is_twice(all))
                    || self.left.iter().any(|it| it == *id)
            });
            verdict.tell("there twice, killed between the copy and its end", seen.count());
        }
        self.judge_attempts(&executions, &settled, &mut verdict);
        self.judge_exits(&mut verdict);
        self.judge_rescues(&executions, &mut verdict);
        verdict
    }

    fn has_killed(&self) -> bool {
        self.lives.iter().any(Life::is_killed)
    }

    fn lease(&self) -> Duration {
        self.can.lease_period().unwrap_or_default()
    }

    fn counts_returns(&self) -> bool {
        self.can.release.is_some_and(|release| release.attempt == Attempt::Counted)
    }

    fn returns_by_copy(&self) -> bool {
        self.can.release.is_some_and(|release| release.place == Place::Back)
    }

    /// The jobs that a kill may have left twice.
    fn copied<'a>(
        &self,
        executions: &BTreeMap<&'a str, Vec<Execution>>,
        settled: &BTreeMap<&str, Vec<&str>>,
    ) -> HashSet<&'a str> {
        let is_copied = |(id, all): &(&&str, &Vec<Execution>)| {
            let cut = all.iter().any(|one| !one.is_settled && self.lives[one.life].end == End::Cut);
            let returns = all.iter().map(|one| one.returns as usize).max().unwrap_or(0);
            let known = settled.get(**id).map_or(0, |all| count(all, "returned"));
            self.has_killed() && (cut || returns > known)
        };
        let found = executions.iter().filter(|_| self.returns_by_copy()).filter(is_copied);
        found.map(|(id, _)| *id).collect()
    }

    /// Each job's executions, in the order of their starts.
    fn executions(&self) -> BTreeMap<&str, Vec<Execution>> {
        let mut all: BTreeMap<&str, Vec<Execution>> = BTreeMap::new();
        for (at, life) in self.lives.iter().enumerate() {
            let mut open: HashMap<&str, Vec<Execution>> = HashMap::new();
            for event in &life.events {
                let here = open.entry(&event.id).or_default();
                match &event.what {
                    What::Start { attempt, returns } => here.push(Execution {
                        life: at,
                        attempt: *attempt,
                        returns: *returns,
                        began: event.at,
                        ended: self.ended(life).max(event.at),
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

    /// When what was under way has ended at the latest.
    fn ended(&self, life: &Life) -> u64 {
        let by_kill = life.is_killed() && self.can.lease_period().is_none();
        if by_kill { life.signalled } else { life.gone }
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
            last.is_some_and(|one| one.has_ended && self.lives[one.life].is_killed())
        };
        let mut lost: Vec<_> =
            self.pushed.iter().filter(|id| !is_done(id) && !unseen(id)).cloned().collect();
        lost.sort();
        let pushed = self.pushed.len();
        if let Some(Counts { done, .. }) = self.counts.filter(|it| it.done != pushed as u64) {
            lost.push(format!("the queue has counted {done} done of {pushed}"));
        }
        lost
    }

    /// What an orderly exit left: stranded, or returned though the answer came too late to be
    /// seen (the next start has the same attempt's number).
    fn stranded(
        &self,
        executions: &BTreeMap<&str, Vec<Execution>>,
        settled: &BTreeMap<&str, Vec<&str>>,
    ) -> (Vec<String>, usize) {
        let (mut found, mut unconfirmed) = (Vec::new(), 0);
        for (id, all) in executions {
            let mut seen = 0;
            for (at, one) in all.iter().enumerate() {
                let life = &self.lives[one.life];
                if one.is_settled || life.is_killed() {
                    continue;
                }
                let soon = life.gone + nanos(self.lease() / 2);
                if all.get(at + 1).is_some_and(|next| match self.counts_returns() {
                    // One that was not returned would be under its lease.
                    true => next.began < soon,
                    false => next.attempt == one.attempt,
                }) {
                    unconfirmed += 1;
                    continue;
                }
                seen += 1;
                let (attempt, said) = (one.attempt, life.said);
                found.push(format!("{id}, attempt {attempt}, by process {}: {said:?}", one.life));
            }
            let most = all.iter().map(|one| one.attempt).max().unwrap_or(1);
            let unseen = match self.counts_returns() {
                true => (most as usize).saturating_sub(claims(all, settled.get(id))),
                false => (most as usize - 1).saturating_sub(seen),
            };
            if !self.has_killed() {
                found.extend((0..unseen).map(|_| format!("{id}, by a claim that nobody has seen")));
            }
        }
        (found, unconfirmed)
    }

    fn judge_attempts(
        &self,
        executions: &BTreeMap<&str, Vec<Execution>>,
        settled: &BTreeMap<&str, Vec<&str>>,
        verdict: &mut Verdict,
    ) {
        if self.has_killed() {
            let most = executions.values().flatten().map(|one| one.attempt).max().unwrap_or(0);
            verdict.tell("attempts of one job, at most", most);
            return;
        }
        let last = |all: &[Execution]| all.iter().map(|one| one.attempt).max().unwrap_or(0);
        let counted = executions
            .iter()
            .filter(|(_, all)| last(all) > 1)
            .map(|(id, all)| format!("{id}: {} of them", all.len()));
        if self.counts_returns() {
            verdict.tell("jobs with attempts counted for a return, as declared", counted.count());
            let wrong = executions.iter().filter_map(|(id, all)| {
                let (counted, claims) = (last(all), claims(all, settled.get(id)));
                (counted as usize != claims).then(|| format!("{id}: {counted} of {claims} claims"))
            });
            verdict.none("attempts that are not the claims", wrong.collect());
        } else {
            verdict.none("attempts counted for a return", counted.collect());
        }
        if let Some(Counts { done, attempts }) = self.counts {
            let measured = format!("{attempts} of {done}");
            verdict.add("the queue's attempts are the jobs done", measured, attempts == done);
        }
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
        // Seen by a clock of this process, which may have the machine later than the other.
        let most = self.grace + SLACK;
        let promise = format!("longest from SIGTERM to a seen exit, of {} ms", most.as_millis());
        verdict.add(&promise, format!("{} ms", longest.as_millis()), longest < most);
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
                if life.is_killed() && !one.is_settled && next.life != one.life {
                    let claims = next.attempt.saturating_sub(one.attempt).max(1);
                    // A worker that was killed between its claim and its start has a lease too.
                    let before = self.lease() * (claims - 1);
                    unseen += claims - 1;
                    let time = Duration::from_nanos(next.began.saturating_sub(life.signalled));
                    times.push(time.saturating_sub(before));
                }
            }
        }
        let longest = times.iter().copied().max().unwrap_or_default();
        let most = self.lease() + SWEEP + SLACK;
        verdict.tell("rescued from killed workers", times.len());
        verdict.tell("claimed in between by one killed before the start", unseen);
        let promise = format!("longest from a kill to the next start, of {} ms", most.as_millis());
        verdict.add(&promise, format!("{} ms", longest.as_millis()), longest <= most);
    }
}

impl Life {
    fn is_killed(&self) -> bool {
        self.end != End::Told
    }

    /// What its exit code or its report says and its ledger does not, or the other way round.
    fn untruth(&self) -> Option<String> {
        let Some(said) = self.said else { return Some("no report".into()) };
        let is_right = match self.code {
            Some(0) => !said.is_cut() && !said.has_cut,
            Some(3) => said.has_cut || said.has_left_any(),
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

/// How often the slowest queue looks for leases that have ended.
const SWEEP: Duration = Duration::from_secs(1);
/// What a free slot and a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use lifecycle_worker::{Lease, ReleaseCapabilities};

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
        let done = pushed.len() as u64;
        let period = Duration::from_secs(5);
        let can = Capabilities::full(Lease::Timed { period, longest: None });
        let counts = Some(Counts { done, attempts: done });
        Run { pushed, lives, counts, left: Vec::new(), grace: Duration::from_secs(3), can }
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
        run.counts = Some(Counts { done: 1, attempts: 1 });
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
        let late = "longest from a kill to the next start, of 9000 ms";
        assert_eq!(broken(&run(&["a"], rescue(12))), [late]);
        let killed_twice = life(well_done("a", 3, 12), End::Told, 20, 21);
        assert!(broken(&run(&["a"], vec![killed.clone(), killed_twice])).is_empty());
    }

    /// As on a broker that returns this way; its lease is the connection.
    fn on_a_broker(run: Run, place: Place, attempt: Attempt) -> Run {
        let release = ReleaseCapabilities::new(place, attempt);
        let can = Capabilities::new(Lease::Connection).with_release(release);
        Run { can, counts: None, ..run }
    }

    fn returned(id: &str, at: u64) -> Life {
        let mut life = life(vec![settled(id, "returned", at)], End::Told, at - 1, at);
        life.said = Some(Said { returned_unstarted: 1, ..Said::default() });
        life
    }

    #[test]
    fn where_returns_count_every_attempt_is_a_claim() {
        let judged = |attempt| {
            let lives = vec![returned("a", 2), life(well_done("a", attempt, 3), End::Told, 5, 6)];
            broken(&on_a_broker(run(&["a"], lives), Place::Unordered, Attempt::Counted))
        };
        assert!(judged(2).is_empty());
        let dropped = ["stranded by an orderly exit", "attempts that are not the claims"];
        assert_eq!(judged(3), dropped);
        assert_eq!(judged(1), dropped[1..], "it says that it counts them");
    }

    #[test]
    fn a_job_that_a_kill_has_left_twice_is_counted_apart_and_only_that() {
        let judged = |end, second| {
            let cut = Life { code: None, ..life(vec![start("a", 1, 1)], end, 2, 3) };
            let lives = vec![cut, life(well_done("a", 1, 2), End::Told, 20, 21), second];
            let run = on_a_broker(run(&["a"], lives), Place::Back, Attempt::NotCounted);
            (broken(&run), run.judge().to_string())
        };
        let again = life(well_done("a", 2, 2), End::Told, 20, 21);
        let twice = ["executions that overlap", "acknowledged twice"];
        let (found, said) = judged(End::Cut, again.clone());
        assert!(found.is_empty(), "{said}");
        assert!(
            said.contains("| there twice, killed between the copy and its end | 1 |"),
            "{said}"
        );
        assert_eq!(judged(End::Killed, again.clone()).0, twice, "it was returning nothing");
        let copy = Event::new("a", What::Start { attempt: 1, returns: 1 }, 4 * SECOND);
        let events = vec![copy, end("a", 5), settled("a", "done", 5)];
        let copy = life(events, End::Told, 20, 21);
        assert!(judged(End::Killed, copy).0.is_empty(), "a return that nobody has seen");
        let lives = vec![life(well_done("a", 1, 2), End::Told, 20, 21), again];
        let run = on_a_broker(run(&["a"], lives), Place::Back, Attempt::NotCounted);
        let of_none = [twice[0], twice[1], "attempts counted for a return"];
        assert!(of_none.iter().all(|one| broken(&run).contains(&(*one).to_owned())), "no kill");
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
        let perhaps = Said { claims_uncertain: 1, ..Said::default() };
        assert_eq!(of(Some(0), Some(perhaps)), untrue, "somebody may wait for a lease");
        assert!(of(Some(3), Some(perhaps)).is_empty());
        let late = "longest from SIGTERM to a seen exit, of 6000 ms";
        let of = |gone| broken(&run(&["a"], vec![life(well_done("a", 1, 1), End::Told, 5, gone)]));
        assert!(of(10).is_empty());
        assert_eq!(of(11), [late]);
    }
}
