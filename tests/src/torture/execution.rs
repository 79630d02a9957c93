//! One execution of a job, and what several of one job are together. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// One execution of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution {
    pub(super) life: usize,
    pub(super) attempt: u32,
    pub(super) returns: u32,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) has_ended: bool,
    pub(super) is_settled: bool,
}

/// How often it was claimed: begun, or returned before.
pub(super) fn claims(all: &[Execution], settled: Option<&Vec<&str>>) -> usize {
    let begun_and_settled = all.iter().filter(|one| one.is_settled).count();
    all.len() + settled.map_or(0, |settled| settled.len() - begun_and_settled)
}

pub(super) fn count(settled: &[&str], outcome: &str) -> usize {
    settled.iter().filter(|it| **it == outcome).count()
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The jobs, and how.
pub(super) fn overlaps<'a>(
    executions: &BTreeMap<&'a str, Vec<Execution>>,
) -> Vec<(&'a str, String)> {
    let mut found = Vec::new();
    for (id, all) in executions {
        let mut before: Option<&Execution> = None;
        for one in all {
            if let Some(before) = before.filter(|before| before.ended > one.began) {
                let by = Duration::from_nanos(before.ended - one.began);
                let text = format!("{id}: process {} and {} by {by:?}", before.life, one.life);
                found.push((*id, text));
            }
            if before.is_none_or(|before| before.ended < one.ended) {
                before = Some(one);
            }
        }
    }
    found
}
