//! A job as a message: properties, headers of ours, and the body with the checkpoint behind it.
//!
//! Not here: where it is sent. Pure: a message of anybody else's is a job too.
//!
//! # Invariants
//! 1. What the broker wrote into the headers of one delivery is not in the next copy: a trail of
//!    dead letters would make the broker take the copy for one that goes in a circle.
//! 2. A checkpoint lies in the body, since a header has to fit into one frame.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use uuid::Uuid;

use super::fault::Fault;
use crate::claimed::{Claimed, JobId, Receipt};
use crate::push::Push;

/// All that is known of a job, besides where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) id: JobId,
    pub(super) kind: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) headers: Vec<(String, String)>,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) priority: Option<u8>,
    /// Counted before this message was written.
    pub(super) attempts: u32,
    pub(super) returns: u32,
    pub(super) error: Option<String>,
    /// Of a dead letter: after how many attempts.
    pub(super) died_after: Option<u32>,
}

/// How a delivery came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// For the first time.
    First,
    /// So many times before, each of which ended with its worker's connection.
    Again(u32),
    /// Before, and the broker does not say how often.
    AgainUncounted,
}

impl Content {
    /// A job that is pushed.
    pub(super) fn new(push: &Push, priority: Option<u8>) -> Result<Self, Fault> {
        let content = Self {
            id: JobId::new(Uuid::now_v7().to_string()),
            kind: Arc::from(push.kind()),
            payload: push.payload().clone(),
            headers: push.headers().to_vec(),
            checkpoint: None,
            priority,
            attempts: 0,
            returns: 0,
            error: None,
            died_after: None,
        };
        content.check()?;
        Ok(content)
    }

    /// As a dead letter. Its attempts are over: one that somebody moves back begins anew.
    pub(super) fn dead(self) -> Self {
        Self { attempts: 0, died_after: Some(self.attempts), ..self }
    }

    /// Of the body.
    pub(super) fn size(&self) -> usize {
        self.payload.len() + self.checkpoint.as_ref().map_or(0, Bytes::len)
    }

    /// That a message can hold it.
    fn check(&self) -> Result<(), Fault> {
        let invalid = |what: String| Err(Fault::Invalid(what));
        if self.kind.len() > SHORT {
            return invalid(format!("a kind has {SHORT} bytes at most over AMQP"));
        }
        let mut bytes = self.kind.len();
        for (name, value) in &self.headers {
            if name.len() > SHORT || is_reserved(name) {
                return invalid(format!("{name:?} cannot be the name of a header over AMQP"));
            }
            bytes += name.len() + value.len();
        }
        if bytes > HEADERS_MOST {
            return invalid(format!("headers have {HEADERS_MOST} bytes at most over AMQP"));
        }
        Ok(())
    }

    /// What goes beside the body.
    pub(super) fn properties(&self) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in &self.headers {
            if let Ok(name) = ShortString::try_new(name.as_str()) {
                table.insert(name, text(value));
            }
        }
        table.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(self.attempts.into()));
        table.insert(RETURNS.into(), AMQPValue::LongLongInt(self.returns.into()));
        if let Some(checkpoint) = &self.checkpoint {
            let length = i64::try_from(checkpoint.len()).unwrap_or(i64::MAX);
            table.insert(CHECKPOINT.into(), AMQPValue::LongLongInt(length));
        }
        if let Some(attempts) = self.died_after {
            table.insert(DIED_AFTER.into(), AMQPValue::LongLongInt(attempts.into()));
        }
        if let Some(error) = &self.error {
            table.insert(ERROR.into(), text(cut(error)));
        }
        let mut properties =
            BasicProperties::default().with_headers(table).with_delivery_mode(PERSISTENT);
        if let Ok(id) = ShortString::try_new(self.id.as_str()) {
            properties = properties.with_message_id(id);
        }
        if let Ok(kind) = ShortString::try_new(&*self.kind) {
            properties = properties.with_type(kind);
        }
        match self.priority {
            Some(priority) => properties.with_priority(priority),
            None => properties,
        }
    }

    /// The payload, and the checkpoint behind it.
    pub(super) fn body(&self) -> Bytes {
        let Some(checkpoint) = &self.checkpoint else { return self.payload.clone() };
        let mut body = BytesMut::with_capacity(self.payload.len() + checkpoint.len());
        body.extend_from_slice(&self.payload);
        body.extend_from_slice(checkpoint);
        body.freeze()
    }

    /// What was delivered, whoever wrote it, and how it came about.
    pub(super) fn read(delivery: &mut Delivery) -> (Self, Delivered) {
        let mut body = Bytes::from(std::mem::take(&mut delivery.data));
        let properties = &delivery.properties;
        let empty = FieldTable::default();
        let table = properties.headers().as_ref().unwrap_or(&empty);
        let count = |name: &str| table.inner().get(name).and_then(integer);
        let count32 = |name: &str| count(name).and_then(|count| u32::try_from(count).ok());
        let length = count(CHECKPOINT).and_then(|length| usize::try_from(length).ok());
        let checkpoint = length
            .filter(|length| *length <= body.len())
            .map(|length| body.split_off(body.len() - length));
        let headers = table.inner().iter().filter(|(name, _)| !is_reserved(name.as_str()));
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), words(value)?)));
        let id = properties.message_id().as_ref().map(ShortString::to_string);
        let kind = properties.kind().as_ref().map(ShortString::as_str).unwrap_or_default();
        let content = Self {
            id: JobId::new(id.unwrap_or_else(|| Uuid::now_v7().to_string())),
            kind: Arc::from(kind),
            payload: body,
            headers: headers.collect(),
            checkpoint,
            priority: *properties.priority(),
            attempts: count32(ATTEMPTS).unwrap_or(0),
            returns: count32(RETURNS).unwrap_or(0),
            error: None,
            died_after: None,
        };
        let delivered = match (delivery.redelivered, count32(DELIVERIES)) {
            (_, Some(count)) if count > 0 => Delivered::Again(count),
            (true, _) => Delivered::AgainUncounted,
            (false, _) => Delivered::First,
        };
        (content, delivered)
    }

    /// As the worker sees it.
    pub(super) fn claimed(&self, receipt: Receipt) -> Claimed {
        Claimed::new(receipt, Arc::clone(&self.kind), self.payload.clone())
            .attempt(self.attempts.saturating_add(1))
            .returns(self.returns)
            .headers(self.headers.clone())
            .checkpoint(self.checkpoint.clone())
    }
}

/// Whether the broker or this queue writes headers of that name.
fn is_reserved(name: &str) -> bool {
    const OF_BROKER: [&str; 6] = [
        "x-acquired-count",
        "x-death",
        "x-delivery-count",
        "x-opt-rabbitmq-received-time",
        "CC",
        "BCC",
    ];
    OF_BROKER.contains(&name)
        || ["x-first-death-", "x-last-death-", "x-lifecycle-"].iter().any(|p| name.starts_with(p))
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_bytes()))
}

/// A header's value as text, if it is one that has a text.
fn words(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        other => integer(other).map(|number| number.to_string()),
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(value) => Some((*value).into()),
        AMQPValue::ShortShortUInt(value) => Some((*value).into()),
        AMQPValue::ShortInt(value) => Some((*value).into()),
        AMQPValue::ShortUInt(value) => Some((*value).into()),
        AMQPValue::LongInt(value) => Some((*value).into()),
        AMQPValue::LongUInt(value) => Some((*value).into()),
        AMQPValue::LongLongInt(value) => Some(*value),
        _ => None,
    }
}

/// As much of an error as has place in a frame beside the headers.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(ERROR_MOST);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

const ATTEMPTS: &str = "x-lifecycle-attempts";
const CHECKPOINT: &str = "x-lifecycle-checkpoint";
const DIED_AFTER: &str = "x-lifecycle-died-after";
const ERROR: &str = "x-lifecycle-error";
const RETURNS: &str = "x-lifecycle-returns";
/// The broker's, on quorum queues: how often this message was delivered before.
const DELIVERIES: &str = "x-delivery-count";
const PERSISTENT: u8 = 2;
/// What AMQP calls a short string has so many bytes at most.
const SHORT: usize = 255;
/// All headers have to fit into one frame, of which the broker's default is 128 KiB.
const HEADERS_MOST: usize = 64 << 10;
const ERROR_MOST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        let push =
            Push::new("mail \u{e9}", vec![0, 255]).header("traceparent", "00-1").header("", "");
        Content::new(&push, Some(9)).unwrap()
    }

    fn delivered(content: &Content, redelivered: bool, count: Option<i64>) -> Delivery {
        let mut delivery =
            Delivery::mock(1, "".into(), "mail".into(), redelivered, content.body().to_vec());
        let mut properties = content.properties();
        if let Some(count) = count {
            let mut table = properties.headers().clone().unwrap();
            table.insert(DELIVERIES.into(), AMQPValue::LongLongInt(count));
            table.insert("x-death".into(), AMQPValue::Boolean(true));
            properties = properties.with_headers(table);
        }
        delivery.properties = properties;
        delivery
    }

    #[test]
    fn a_job_comes_back_as_it_was_written() {
        let mut written = content();
        written.headers.sort();
        for checkpoint in [None, Some(Bytes::new()), Some(Bytes::from_static(b"\xff at 7"))] {
            written.checkpoint = checkpoint;
            (written.attempts, written.returns) = (3, 2);
            let (read, how) = Content::read(&mut delivered(&written, false, None));
            assert_eq!(read, written);
            assert_eq!(how, Delivered::First);
        }
    }

    #[test]
    fn what_the_broker_counts_is_told_and_not_kept() {
        let written = content();
        let (read, how) = Content::read(&mut delivered(&written, true, Some(4)));
        assert_eq!(how, Delivered::Again(4));
        assert_eq!(read.headers.len(), 2);
        let (_, how) = Content::read(&mut delivered(&written, true, None));
        assert_eq!(how, Delivered::AgainUncounted);
    }

    #[test]
    fn a_message_of_somebody_else_is_a_job() {
        let mut foreign = Delivery::mock(1, "".into(), "mail".into(), false, b"x".to_vec());
        let mut table = FieldTable::default();
        table.insert("n".into(), AMQPValue::LongInt(7));
        table.insert(CHECKPOINT.into(), AMQPValue::LongInt(7));
        foreign.properties = BasicProperties::default().with_headers(table);
        let (read, _) = Content::read(&mut foreign);
        assert_eq!((read.kind.as_ref(), &read.payload[..], read.attempts), ("", &b"x"[..], 0));
        assert_eq!(read.headers, [("n".to_owned(), "7".to_owned())]);
        assert_eq!((read.checkpoint, read.id.as_str().len()), (None, 36));
    }

    #[test]
    fn what_no_message_can_hold_is_refused() {
        let long = "x".repeat(SHORT + 1);
        for push in [
            Push::new(long.as_str(), ""),
            Push::new("mail", "").header(long.as_str(), ""),
            Push::new("mail", "").header("x-death", ""),
            Push::new("mail", "").header("large", "x".repeat(HEADERS_MOST)),
        ] {
            assert!(matches!(Content::new(&push, None), Err(Fault::Invalid(_))));
        }
        assert_eq!(cut("\u{e9}".repeat(ERROR_MOST).as_str()).len(), ERROR_MOST);
        assert_eq!(cut("x\u{e9}".repeat(ERROR_MOST).as_str()).len() % 3, 1);
    }
}
