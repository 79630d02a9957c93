//! A job as a message: what is known of it is JSON in one header, and its payload is the body.
//!
//! Pure: a message of anybody else's is a job too.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::claimed::JobId;
use crate::push::Push;
use crate::stats::DeadJob;

/// All that is known of a job, besides where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) id: JobId,
    pub(super) kind: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) headers: Vec<(String, String)>,
}

impl Content {
    pub(super) fn new(push: &Push) -> Self {
        Self {
            id: JobId::new(Uuid::now_v7().to_string()),
            kind: Arc::from(push.kind()),
            payload: push.payload().clone(),
            headers: push.headers().to_vec(),
        }
    }

    /// Its headers as a message, known to the stream by that id while it remembers it.
    pub(super) fn header_map(&self, message_id: &str) -> HeaderMap {
        let job = json!({ "id": self.id.as_str(), "kind": &*self.kind, "headers": self.headers });
        let mut map = HeaderMap::new();
        // JSON has no line breaks of its own, and writes those of texts otherwise.
        map.insert(JOB, job.to_string());
        map.insert(MESSAGE_ID, message_id);
        map
    }

    /// The same for a dead letter, which the stream takes once for each place in the queue's: a
    /// dead job that is pushed again may die again.
    pub(super) fn dead_header_map(&self, place: u64, attempts: u32, error: &str) -> HeaderMap {
        let mut map = self.header_map(&format!("{}-{place}", self.id.as_str()));
        let dead = json!({ "attempts": attempts, "error": cut(error) });
        map.insert(DEAD, dead.to_string());
        map
    }

    /// What was delivered, whoever wrote it; `sequence` names it where nobody has.
    pub(super) fn read(headers: Option<&HeaderMap>, payload: Bytes, sequence: u64) -> Self {
        let job = headers.and_then(|map| parsed(map, JOB)).unwrap_or_default();
        let id = job["id"].as_str().map_or_else(|| sequence.to_string(), str::to_owned);
        let kind = Arc::from(job["kind"].as_str().unwrap_or_default());
        let headers = match (&job["headers"], headers) {
            (Value::Array(pairs), _) => pairs.iter().filter_map(pair).collect(),
            (_, Some(map)) => foreign(map),
            (_, None) => Vec::new(),
        };
        Self { id: JobId::new(id), kind, payload, headers }
    }

    /// A dead letter as it lies in its stream.
    pub(super) fn read_dead(headers: &HeaderMap, payload: Bytes, sequence: u64) -> DeadJob {
        let Self { id, kind, payload, .. } = Self::read(Some(headers), payload, sequence);
        let dead = parsed(headers, DEAD).unwrap_or_default();
        let attempts = dead["attempts"].as_u64().and_then(|count| u32::try_from(count).ok());
        let error = dead["error"].as_str().unwrap_or_default();
        DeadJob::new(id, &*kind, payload, attempts.unwrap_or(0), error)
    }
}

fn parsed(map: &HeaderMap, name: &str) -> Option<Value> {
    serde_json::from_str(map.get(name)?.as_str()).ok()
}

fn pair(pair: &Value) -> Option<(String, String)> {
    Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()))
}

/// The headers of a message that we have not written.
fn foreign(map: &HeaderMap) -> Vec<(String, String)> {
    let ours = |name: &str| [JOB, DEAD, MESSAGE_ID].contains(&name);
    let first = map
        .iter()
        .filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())));
    first.filter(|(name, _)| !ours(name)).collect()
}

/// As much of an error as has place beside the payload.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(ERROR_MOST);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

const JOB: &str = "Lifecycle-Job";
const DEAD: &str = "Lifecycle-Dead";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const ERROR_MOST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_back_as_it_was_written() {
        let push = Push::new("mail \u{e9}\n", vec![0, 255]).header("a \"b\"\r\n", "\u{1f600}\n");
        let written = Content::new(&push);
        let map = written.header_map("once");
        assert_eq!(Content::read(Some(&map), written.payload.clone(), 7), written);
        let dead = written.dead_header_map(7, 3, "no\nway");
        let dead = Content::read_dead(&dead, written.payload.clone(), 7);
        assert_eq!((dead.attempts, dead.error.as_str()), (3, "no\nway"));
        assert_eq!((dead.id, dead.payload), (written.id, written.payload));
    }

    #[test]
    fn a_message_of_somebody_else_is_a_job() {
        let read = Content::read(None, Bytes::from_static(b"x"), 7);
        assert_eq!((read.id.as_str(), &*read.kind, read.headers.len()), ("7", "", 0));
        let mut map = HeaderMap::new();
        map.insert(JOB, "no JSON");
        map.insert("traceparent", "00-1");
        let read = Content::read(Some(&map), Bytes::new(), 8);
        assert_eq!(read.headers, [("traceparent".to_owned(), "00-1".to_owned())]);
    }
}
