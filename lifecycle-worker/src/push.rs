//! A job on its way into a queue.

use std::time::Duration;

use bytes::Bytes;

use crate::claimed::JobId;

/// A job to be pushed: what to do, with what, when.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lifecycle_worker::Push;
///
/// let job = Push::new("mail", r#"{"to":"ada@example.org"}"#)
///     .delay(Duration::from_secs(60))
///     .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
///     .dedupe("welcome-ada");
/// assert_eq!(job.kind(), "mail");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a job is in no queue before it is pushed"]
pub struct Push {
    kind: String,
    payload: Bytes,
    headers: Vec<(String, String)>,
    delay: Duration,
    priority: i16,
    dedupe: Option<Dedupe>,
}

/// Under which key a job is pushed once only, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dedupe {
    /// Unique in its queue.
    pub key: String,
    /// How long after the push the key is remembered, whatever becomes of the job.
    pub period: Duration,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// A job of the same [`Push::dedupe`] key is remembered: nothing was added.
    Duplicate,
    /// It is in the queue.
    New(JobId),
}

impl Push {
    /// A job of that kind, with that payload: bytes, whatever they are.
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            kind: kind.into(),
            payload: payload.into(),
            headers: Vec::new(),
            delay: Duration::ZERO,
            priority: 0,
            dedupe: None,
        }
    }

    /// A job of that kind, with `value` as JSON for its payload.
    ///
    /// # Errors
    /// When `value` cannot be JSON (a map whose keys are not strings).
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json(
        kind: impl Into<String>,
        value: &impl serde::Serialize,
    ) -> Result<Self, crate::BoxError> {
        Ok(Self::new(kind, serde_json::to_vec(value)?))
    }

    /// Nobody is to claim it for so long. Default: nothing.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Jobs of a higher priority are claimed first, whenever they were pushed. Default: 0.
    pub fn priority(self, priority: i16) -> Self {
        Self { priority, ..self }
    }

    /// Pushed once only under this key, for a day ([`dedupe_for`](Self::dedupe_for)).
    pub fn dedupe(self, key: impl Into<String>) -> Self {
        self.dedupe_for(key, DEDUPE_PERIOD)
    }

    /// Pushed once only under this key, which is remembered for `period` after the push, also
    /// when the job is done by then.
    pub fn dedupe_for(self, key: impl Into<String>, period: Duration) -> Self {
        Self { dedupe: Some(Dedupe { key: key.into(), period }), ..self }
    }

    /// A header, handed to the handler: `traceparent` for a trace that goes on in the worker.
    /// A second one of the same name replaces the first.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// What is to be done.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// With what.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Its headers, in the order they were given.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// How long nobody is to claim it.
    #[must_use]
    pub fn delayed_by(&self) -> Duration {
        self.delay
    }

    /// The higher, the earlier.
    #[must_use]
    pub fn priority_value(&self) -> i16 {
        self.priority
    }

    /// Its dedupe key, if it has one.
    #[must_use]
    pub fn dedupe_key(&self) -> Option<&Dedupe> {
        self.dedupe.as_ref()
    }
}

impl Pushed {
    /// Whether it was added.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }

    /// The job's id, if it was added.
    #[must_use]
    pub fn id(&self) -> Option<&JobId> {
        match self {
            Self::New(id) => Some(id),
            Self::Duplicate => None,
        }
    }
}

const DEDUPE_PERIOD: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_there_once() {
        let job = Push::new("mail", "x").header("a", "1").header("b", "2").header("a", "3");
        let headers = [("b", "2"), ("a", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(job.headers(), headers);
    }
}
