//! What goes over the wire besides numbers: headers as bytes, and answers as values.
//!
//! Not here: connections (`link`), scripts (`scripts`). Pure: an answer of another shape than
//! the script's is `None`, which the caller turns into an error.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::claimed::{Claimed, JobId, Receipt};
use crate::stats::{DeadJob, Stats};

/// What a claim has taken, and in how long the next job falls due.
pub(super) struct Taken {
    pub(super) jobs: Vec<Claimed>,
    pub(super) next: Option<Duration>,
}

/// Headers as one value: each name and value behind its length.
pub(super) fn write_headers(headers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The headers that were written; what is no header ends them.
pub(super) fn read_headers(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    while let Some(name) = read_text(&mut bytes) {
        let Some(value) = read_text(&mut bytes) else { break };
        headers.push((name, value));
    }
    headers
}

/// The answer of the claim script, leased until `ends` at the earliest.
pub(super) fn taken(answer: Value, ends: Instant) -> Option<Taken> {
    let [next, jobs] = items(answer)?;
    let Value::Array(jobs) = jobs else { return None };
    let jobs = jobs.into_iter().map(|job| claimed(job, ends)).collect::<Option<_>>()?;
    // Negative: nothing is scheduled or leased.
    let next = u64::try_from(integer(&next)?).ok().map(Duration::from_millis);
    Some(Taken { jobs, next })
}

fn claimed(job: Value, ends: Instant) -> Option<Claimed> {
    let [id, claim, kind, payload, headers, attempts, returns, checkpoint] = items(job)?;
    let checkpoint = match checkpoint {
        Value::Nil => None,
        other => Some(bytes(other)?.into()),
    };
    let receipt = Receipt::new(JobId::new(text(id)?), u64::try_from(integer(&claim)?).ok()?);
    let claimed = Claimed::new(receipt, Arc::from(text(kind)?), bytes(payload)?)
        .attempt(u32::try_from(integer(&attempts)?).ok()?)
        .returns(u32::try_from(integer(&returns)?).ok()?)
        .headers(read_headers(&bytes(headers)?))
        .checkpoint(checkpoint)
        .lease_ends(ends);
    Some(claimed)
}

/// Which of the jobs the script has found to be what the caller said.
pub(super) fn flags(answer: Value, count: usize) -> Option<Vec<bool>> {
    let Value::Array(values) = answer else { return None };
    let flags: Vec<_> =
        values.iter().map(|value| Some(integer(value)? == 1)).collect::<Option<_>>()?;
    (flags.len() == count).then_some(flags)
}

/// The answer of the script that counts.
pub(super) fn stats(answer: Value) -> Option<Stats> {
    let counts: [Value; 7] = items(answer)?;
    let mut numbers = [0; 7];
    for (number, count) in numbers.iter_mut().zip(&counts) {
        *number = u64::try_from(integer(count)?).ok()?;
    }
    let [ready, scheduled, running, done, dead, attempts, returns] = numbers;
    Some(Stats { ready, scheduled, running, done, dead, attempts, returns })
}

/// How many dead letters the script has looked at, and those that it found.
pub(super) fn dead(answer: Value) -> Option<(usize, Vec<DeadJob>)> {
    let [seen, jobs] = items(answer)?;
    let Value::Array(jobs) = jobs else { return None };
    let jobs = jobs.into_iter().map(dead_job).collect::<Option<_>>()?;
    Some((usize::try_from(integer(&seen)?).ok()?, jobs))
}

fn dead_job(job: Value) -> Option<DeadJob> {
    let [id, kind, payload, attempts, error] = items(job)?;
    let attempts = u32::try_from(integer(&attempts)?).ok()?;
    Some(DeadJob::new(JobId::new(text(id)?), text(kind)?, bytes(payload)?, attempts, text(error)?))
}

/// The version in what `INFO server` says.
pub(super) fn version(info: &str) -> Option<(&str, u32)> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?.trim();
    Some((version, version.split('.').next()?.parse().ok()?))
}

fn read_text(bytes: &mut &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn items<const N: usize>(value: Value) -> Option<[Value; N]> {
    match value {
        Value::Array(values) => values.try_into().ok(),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn headers_come_back_as_they_were() {
        for headers in [pairs(&[]), pairs(&[("", "")]), pairs(&[("a", "1"), ("ü", "x\n:\0")])] {
            assert_eq!(read_headers(&write_headers(&headers)), headers);
        }
    }

    #[test]
    fn bytes_that_are_no_headers_are_none() {
        let mut cut = write_headers(&pairs(&[("name", "value"), ("more", "values")]));
        cut.truncate(cut.len() - 1);
        assert_eq!(read_headers(&cut), pairs(&[("name", "value")]));
        assert_eq!(read_headers(&[255; 9]), []);
        assert_eq!(read_headers(&[0, 0, 0, 1, 255]), []);
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        let now = Instant::now();
        assert!(taken(Value::Nil, now).is_none());
        assert!(taken(Value::Array(vec![Value::Int(1)]), now).is_none());
        let empty = Value::Array(vec![Value::Int(-1), Value::Array(Vec::new())]);
        assert!(taken(empty, now).is_some_and(|taken| taken.next.is_none()));
        assert_eq!(flags(Value::Array(vec![Value::Int(1)]), 2), None);
        assert_eq!(
            flags(Value::Array(vec![Value::Int(1), Value::Int(0)]), 2),
            Some(vec![true, false])
        );
        assert_eq!(stats(Value::Array(vec![Value::Int(1); 6])), None);
        assert_eq!(dead(Value::Okay), None);
    }

    #[test]
    fn a_version_is_read_from_what_the_server_says() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(version(info), Some(("7.0.15", 7)));
        assert_eq!(version("redis_version:unstable"), None);
        assert_eq!(version(""), None);
    }
}
