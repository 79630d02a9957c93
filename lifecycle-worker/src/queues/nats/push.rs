//! What goes into the streams, and what lies in that of the dead letters.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::RawMessageErrorKind;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::message::Content;
use super::{NatsQueue, STREAM_API, fault};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::stats::DeadJob;

impl NatsQueue {
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, PublishError> {
        self.context().publish_with_headers(subject, headers, payload).await?.await
    }

    /// What it means that a message for that stream was not taken.
    pub(super) async fn not_taken(&self, error: PublishError, stream: &str) -> QueueError {
        match error.kind() {
            PublishErrorKind::StreamNotFound => self.nobody_takes(stream).await,
            _ => fault::of_publish(error),
        }
    }

    /// Nobody listens for what goes to that stream: it is not there, or is between two leaders.
    pub(super) async fn nobody_takes(&self, stream: &str) -> QueueError {
        let context = self.context();
        let asking = async { context.get_stream(stream).await.map_err(fault::of_api) };
        match self.within(&[STREAM_API], Box::pin(asking)).await {
            Ok(_) => QueueError::unavailable("the stream is there, and has no leader just now"),
            Err(error) => error,
        }
    }

    pub(super) async fn push_all(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.connected()?;
        for job in jobs {
            self.check(job)?;
        }
        let (context, subject) = (self.context(), &self.shared.names.subject);
        let mut pushed = Vec::with_capacity(jobs.len());
        for some in jobs.chunks(PUSHED_AT_ONCE) {
            let mut answers = Vec::with_capacity(some.len());
            for job in some {
                let content = Content::new(job);
                let id = job.dedupe_key().map_or(content.id.as_str(), |dedupe| &dedupe.key);
                let (headers, payload) = (content.header_map(id), content.payload.clone());
                if content.length(&headers) > self.shared.client.max_payload() {
                    return Err(fault::too_large());
                }
                let sent = context.publish_with_headers(subject.clone(), headers, payload).await;
                answers.push((content.id, sent.map_err(fault::of_publish)?));
            }
            for (id, answer) in answers {
                let is_new = match answer.await {
                    Ok(answer) => !answer.duplicate,
                    Err(error) => {
                        return Err(self.not_taken(error, &self.shared.names.stream).await);
                    }
                };
                pushed.push(if is_new { Pushed::New(id) } else { Pushed::Duplicate });
            }
        }
        Ok(pushed)
    }

    fn check(&self, job: &Push) -> Result<(), QueueError> {
        let unsupported = |what: String| Err(QueueError::Unsupported { what });
        if !job.delayed_by().is_zero() || job.priority_value() != 0 {
            return unsupported("NATS has no delays of a push and no priorities".to_owned());
        }
        let Some(dedupe) = job.dedupe_key() else { return Ok(()) };
        if dedupe.period != self.dedupe_period {
            let period = self.dedupe_period;
            return unsupported(format!("NATS remembers dedupe keys for {period:?}, all of them"));
        }
        if dedupe.key.contains(['\r', '\n']) {
            let what = "a dedupe key has no line breaks over NATS".to_owned();
            return Err(QueueError::Invalid { what });
        }
        Ok(())
    }

    pub(super) async fn letters(&self, max: usize) -> Result<Vec<DeadJob>, QueueError> {
        let (context, name) = (self.context(), &self.shared.names.dead_stream);
        let mut found = context.get_stream(name).await.map_err(fault::of_api)?;
        let state = found.info().await.map_err(fault::of_api)?.state.clone();
        let found = &found;
        let newest = (state.first_sequence.max(1)..=state.last_sequence).rev();
        let letters = stream::iter(newest).map(|sequence| found.get_raw_message(sequence));
        let letters = letters.buffered(LISTED_AT_ONCE).filter_map(async |letter| match letter {
            Ok(letter) => {
                Some(Ok(Content::read_dead(&letter.headers, letter.payload, letter.sequence)))
            }
            // Some of them may have been deleted by hand.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => None,
            Err(error) => Some(Err(fault::of_api(error))),
        });
        letters.take(max).try_collect().await
    }
}

const PUSHED_AT_ONCE: usize = 500;
const LISTED_AT_ONCE: usize = 16;
