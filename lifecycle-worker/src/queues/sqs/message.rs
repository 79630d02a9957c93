//! A job as a message, and back. Pure.
//!
//! The body is the payload where SQS takes it as text, base64 of it otherwise. Kind, headers and
//! which of the two it is are in three of the ten attributes that a message may have.

use std::collections::BTreeMap;

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::MessageAttributeValue;

use crate::error::QueueError;
use crate::push::Push;

/// What a message holds of a job. Kept with its claim, since a dead letter is a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) body: String,
    /// By name: kind, encoding, headers, and those of other senders.
    pub(super) attributes: BTreeMap<String, String>,
}

impl Content {
    /// The job as a message.
    pub(super) fn of(job: &Push) -> Result<Self, QueueError> {
        let kind = job.kind();
        if kind.is_empty() || !kind.chars().all(is_allowed) {
            let what =
                format!("SQS takes no kind that is empty or has control characters: {kind:?}");
            return Err(QueueError::Invalid { what });
        }
        let mut attributes = BTreeMap::from([(KIND.to_owned(), kind.to_owned())]);
        let text = std::str::from_utf8(job.payload()).ok();
        let body = match text.filter(|text| !text.is_empty() && text.chars().all(is_allowed)) {
            Some(text) => text.to_owned(),
            None if job.payload().is_empty() => {
                attributes.insert(ENCODING.to_owned(), EMPTY.to_owned());
                "-".to_owned()
            }
            None => {
                attributes.insert(ENCODING.to_owned(), BASE64.to_owned());
                base64(job.payload())
            }
        };
        if !job.headers().is_empty() {
            let headers = serde_json::Value::from_iter(
                job.headers().iter().map(|(name, value)| vec![name.clone(), value.clone()]),
            );
            attributes.insert(HEADERS.to_owned(), escaped(&headers.to_string()));
        }
        let content = Self { body, attributes };
        let size = content.size();
        if size > SIZE_MOST {
            let what = format!(
                "a message of SQS has {SIZE_MOST} bytes at most with its headers, this job {size} \
                 (what is not text is a third larger there)"
            );
            return Err(QueueError::Invalid { what });
        }
        Ok(content)
    }

    /// A copy for the dead letters, with why it is one.
    pub(super) fn dead(&self, error: &str, attempts: u32) -> Self {
        let mut copy = self.clone();
        let clean = |c: char| if is_allowed(c) { c } else { char::REPLACEMENT_CHARACTER };
        let mut error: String = error.chars().map(clean).collect();
        let end = (0..=ERROR_MOST.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
        error.truncate(end.unwrap_or_default());
        if error.is_empty() {
            error.push('-');
        }
        copy.attributes.insert(ERROR.to_owned(), error);
        copy.attributes.insert(ATTEMPTS.to_owned(), attempts.to_string());
        copy
    }

    pub(super) fn kind(&self) -> &str {
        self.attributes.get(KIND).map_or("", String::as_str)
    }

    /// The payload; the body as it is, where it is not what it says, or of another sender.
    pub(super) fn payload(&self) -> Vec<u8> {
        let decoded = match self.attributes.get(ENCODING).map(String::as_str) {
            Some(EMPTY) => Some(Vec::new()),
            Some(BASE64) => from_base64(&self.body),
            _ => None,
        };
        decoded.unwrap_or_else(|| self.body.clone().into_bytes())
    }

    /// The headers, a dead letter's error and attempts, and the attributes of other senders.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let ours = self.attributes.get(HEADERS).and_then(|text| serde_json::from_str(text).ok());
        let mut headers: Vec<(String, String)> = ours.unwrap_or_default();
        let others = self.attributes.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        headers.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        headers
    }

    /// Bytes as SQS counts them.
    pub(super) fn size(&self) -> usize {
        let one = |(name, value): (&String, &String)| name.len() + value.len() + "String".len();
        self.body.len() + self.attributes.iter().map(one).sum::<usize>()
    }
}

/// An attribute's value as text.
pub(super) fn text(value: &MessageAttributeValue) -> String {
    let bytes = || value.binary_value().map(Blob::as_ref);
    let binary = || bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    value.string_value().map(str::to_owned).or_else(binary).unwrap_or_default()
}

/// Whether SQS takes that character.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// JSON without characters that SQS refuses; there are none outside of strings.
fn escaped(json: &str) -> String {
    let one = |c: char| match c {
        c if is_allowed(c) => c.to_string(),
        c => format!("\\u{:04x}", u32::from(c)),
    };
    json.chars().map(one).collect()
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            let digit = (bits >> (18 - 6 * index)) & 63;
            let digit = char::from(DIGITS[usize::try_from(digit).unwrap_or_default()]);
            text.push(if index <= three.len() { digit } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|one| *one == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 255).ok()?);
        }
    }
    Some(bytes)
}

const KIND: &str = "kind";
const ENCODING: &str = "encoding";
const HEADERS: &str = "headers";
const ERROR: &str = "error";
const ATTEMPTS: &str = "attempts";
const OURS: [&str; 3] = [KIND, ENCODING, HEADERS];
const BASE64: &str = "base64";
const EMPTY: &str = "empty";
/// What every queue takes is 256 KiB; a dead letter's error needs room.
pub(super) const SIZE_MOST: usize = 256 * 1024 - 4 * 1024;
/// A payload of so many bytes fits, whatever they are, with a few headers.
pub(super) const PAYLOAD_MOST: usize = 180 * 1024;
const ERROR_MOST: usize = 2 * 1024;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    fn content(job: &Push) -> Content {
        Content::of(job).expect("it fits")
    }

    #[test]
    fn text_stays_text_and_the_rest_is_base64() {
        let plain = content(&Push::new("mail", "ada").header("a", "1"));
        assert_eq!((plain.body.as_str(), plain.kind()), ("ada", "mail"));
        assert_eq!(plain.attributes["headers"], r#"[["a","1"]]"#);
        for (bytes, body) in
            [(&b"\x00\x01"[..], "AAE="), (b"\xff", "/w=="), (b"abc\x00", "YWJjAA=="), (b"", "-")]
        {
            let content = content(&Push::new("mail", bytes));
            assert_eq!((content.body.as_str(), content.payload().as_slice()), (body, bytes));
        }
    }

    #[test]
    fn messages_of_other_senders_are_jobs_without_a_kind() {
        let attributes = BTreeMap::from([("trace".to_owned(), "7".to_owned())]);
        let content = Content { body: "hello".into(), attributes };
        assert_eq!((content.kind(), content.payload().as_slice()), ("", &b"hello"[..]));
        assert_eq!(content.headers(), [("trace".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn what_sqs_refuses_is_said_before_it_is_sent() {
        let error = Content::of(&Push::new("", "x")).expect_err("no kind").to_string();
        assert!(error.contains("no kind that is empty"), "{error}");
        let error = Content::of(&Push::new("a", vec![0; 200_000])).expect_err("too large");
        assert!(error.to_string().starts_with("a message of SQS has 258048 bytes"), "{error}");
        assert!(Content::of(&Push::new("a", vec![0; PAYLOAD_MOST])).is_ok());
    }

    #[test]
    fn a_dead_letter_is_a_copy_with_its_error() {
        let dead = content(&Push::new("mail", "x")).dead("a\0b", 3);
        assert_eq!(dead.attributes["error"], "a\u{fffd}b");
        assert_eq!(dead.attributes["attempts"], "3");
        assert_eq!(content(&Push::new("mail", "x")).dead("", 1).attributes["error"], "-");
        let long = content(&Push::new("mail", "x")).dead(&"\u{e9}".repeat(5000), 1);
        assert_eq!(long.attributes["error"].len(), ERROR_MOST);
        let headers = [("attempts", "3"), ("error", "a\u{fffd}b")];
        assert_eq!(dead.headers(), headers.map(|(name, value)| (name.into(), value.into())));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

            /// Whatever the bytes and headers: back as they were, in characters that SQS takes.
            #[test]
            fn a_job_comes_back_as_it_was(
                payload in prop::collection::vec(any::<u8>(), 0..200),
                headers in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
            ) {
                let job = Push::new("a", payload.clone());
                let job = headers.iter().fold(job, |job, (name, value)| job.header(name, value));
                let content = content(&job);
                prop_assert_eq!(content.payload(), payload);
                prop_assert_eq!(content.headers(), job.headers());
                let texts = content.attributes.values().chain([&content.body]);
                prop_assert!(texts.flat_map(|text| text.chars()).all(is_allowed));
                prop_assert!(!content.body.is_empty());
            }
        }
    }
}
