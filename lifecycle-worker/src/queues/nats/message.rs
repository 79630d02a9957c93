//! A job as a message: what is known of it is JSON in one header, and its payload is the body.
//!
//! Pure: a message of anybody else's is a job too.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderValue};
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

/// How a job died, and its place in the queue's stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead<'a> {
    pub(super) place: u64,
    pub(super) attempts: u32,
    pub(super) error: &'a str,
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
    /// dead job that is pushed again may die again. With the payload it has `most` bytes at most:
    /// the error is cut to that. The message of somebody else that leaves less room goes without
    /// how it died, then without what it was, and at last without the id.
    pub(super) fn dead_header_map(&self, dead: Dead<'_>, most: usize) -> HeaderMap {
        let id = format!("{}-{}", self.id.as_str(), dead.place);
        let room = |map: &HeaderMap| most.checked_sub(length(map) + self.payload.len());
        let text = |error| json!({ "attempts": dead.attempts, "error": error }).to_string();
        let mut map = self.header_map(&id);
        map.insert(DEAD, text(""));
        if let Some(room) = room(&map) {
            map.insert(DEAD, text(cut(dead.error, room)));
            return map;
        }
        let mut known = HeaderMap::new();
        known.insert(MESSAGE_ID, id.as_str());
        let less = [self.header_map(&id), known];
        less.into_iter().find(|map| room(map).is_some()).unwrap_or_default()
    }

    /// How large it is as a message of these headers, with room for what a dead letter has beside.
    pub(super) fn length(&self, headers: &HeaderMap) -> usize {
        length(headers) + self.payload.len() + DEAD_ROOM
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

/// As much of an error as JSON has place for in so many bytes.
fn cut(error: &str, room: usize) -> &str {
    let mut left = room.min(ERROR_MOST);
    for (at, char) in error.char_indices() {
        let bytes = match char {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..' ' => 6,
            _ => char.len_utf8(),
        };
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return &error[..at],
        }
    }
    error
}

/// As the server counts them: a first line, a line each, and an empty one.
fn length(map: &HeaderMap) -> usize {
    let one = |name: &str, value: &HeaderValue| name.len() + value.as_str().len() + ": \r\n".len();
    let lines = map
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| one(name.as_ref(), value)));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

const JOB: &str = "Lifecycle-Job";
const DEAD: &str = "Lifecycle-Dead";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const ERROR_MOST: usize = 16 << 10;
/// What a dead letter has beside the job, and some of its error: a push leaves room for it.
const DEAD_ROOM: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_comes_back_as_it_was_written() {
        let push = Push::new("mail \u{e9}\n", vec![0, 255]).header("a \"b\"\r\n", "\u{1f600}\n");
        let written = Content::new(&push);
        let map = written.header_map("once");
        assert_eq!(Content::read(Some(&map), written.payload.clone(), 7), written);
        let dead = Dead { place: 7, attempts: 3, error: "no\nway" };
        let dead = written.dead_header_map(dead, 1 << 20);
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

    #[test]
    fn an_error_is_cut_to_what_its_json_has_place_for() {
        for error in ["\u{1}\u{2}", "a\"\\\n\r\t\u{8}\u{c}", "\u{e9}\u{1f600}\u{7f}"] {
            for room in 0..30 {
                let part = cut(error, room);
                let json = |text: &str| json!(text).to_string().len() - 2;
                assert!(error.starts_with(part) && json(part) <= room, "{room}: {part:?}");
                let next = error[part.len()..].chars().next();
                assert!(next.is_none_or(|next| json(&format!("{part}{next}")) > room), "{room}");
            }
        }
        assert_eq!(cut(&"x".repeat(ERROR_MOST + 1), usize::MAX).len(), ERROR_MOST);
    }

    #[test]
    fn a_dead_letter_is_never_larger_than_a_message_may_be() {
        let job = Content::new(&Push::new("mail", vec![0; 1000]).header("a", "b"));
        let most = job.length(&job.header_map(job.id.as_str()));
        let dead = Dead { place: u64::MAX, attempts: u32::MAX, error: &"\n".repeat(1000) };
        let map = job.dead_header_map(dead, most);
        let dead = Content::read_dead(&map, job.payload.clone(), 7);
        assert!(dead.error.len() > 100, "{}", dead.error.len());
        assert!(length(&map) + 1000 <= most);
    }

    #[test]
    fn a_dead_letter_without_room_keeps_its_id_longest() {
        let job = Content::read(None, vec![0; 1000].into(), 7);
        let kept = |most| {
            let map = job.dead_header_map(Dead { place: 7, attempts: 1, error: "no" }, most);
            assert!(map.is_empty() || length(&map) + 1000 <= most, "{most}: {map:?}");
            [DEAD, JOB, MESSAGE_ID].map(|name| map.get(name).is_some())
        };
        let mut all: Vec<_> = (1000..1300).map(kept).collect();
        all.dedup();
        assert_eq!(all, [[false; 3], [false, false, true], [false, true, true], [true; 3]]);
    }
}
