//! The requests: one each, or in batches of ten with an answer for each entry.
//!
//! # Invariants
//! 1. A request that settles is bounded by the call bound; one that claims by its poll and
//!    that. An answer that is lost is covered by the lease.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::fault::{mapped, of_code};
use super::message::Content;
use crate::error::QueueError;

/// What a batch says of one entry: the id of a message, or nothing.
pub(super) enum Said {
    Done(Option<String>),
    Refused(BatchResultErrorEntry),
    Failed(QueueError),
}

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) content: Content,
    pub(super) delay: i32,
    /// Group and deduplication id, of FIFO queues.
    pub(super) fifo: Option<(String, String)>,
}

/// The client, and how long its requests may take.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub(super) client: Client,
    pub(super) bound: Duration,
}

impl Calls {
    /// Sends in their order, until a batch fails, or it is time.
    pub(super) async fn send(&self, url: &str, messages: &[Send], until: Instant) -> Vec<Said> {
        let mut said = Vec::new();
        for batch in batches(messages) {
            let entries = (0..).zip(batch).map(|(at, message)| entry(at, message)).collect();
            let answer = match entries {
                Ok(entries) => self.send_batch(url, entries, until).await,
                Err(error) => Err(error),
            };
            let has_failed = answer.is_err();
            said.extend(sorted(batch.len(), answer));
            if has_failed {
                break;
            }
        }
        said.resize_with(messages.len(), || {
            Said::Failed(QueueError::unavailable("not sent, since one before it was not"))
        });
        said
    }

    async fn send_batch(
        &self,
        url: &str,
        entries: Vec<SendMessageBatchRequestEntry>,
        until: Instant,
    ) -> Result<Answers, QueueError> {
        let request = self.client.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = self.by(until, Box::pin(request.send())).await?;
        let done = answer.successful.into_iter().map(|one| (one.id, Some(one.message_id)));
        Ok(Answers { done: done.collect(), refused: answer.failed })
    }

    pub(super) async fn receive(
        &self,
        url: &str,
        max: usize,
        poll: Duration,
        lease: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        let request = self.client.receive_message().queue_url(url);
        let request = request
            .max_number_of_messages(i32::try_from(max.min(BATCH)).unwrap_or(1))
            .wait_time_seconds(seconds(poll))
            .visibility_timeout(seconds(lease))
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        let answer = self.within(self.bound + poll, Box::pin(request.send())).await?;
        Ok(answer.messages.unwrap_or_default())
    }

    pub(super) async fn delete(&self, url: &str, handles: &[&str], until: Instant) -> Vec<Said> {
        let mut batches = Vec::new();
        for batch in handles.chunks(BATCH) {
            batches.push(self.delete_some(url, batch, until));
        }
        stream::iter(batches).buffered(AT_ONCE).concat().await
    }

    async fn delete_some(&self, url: &str, handles: &[&str], until: Instant) -> Vec<Said> {
        let entry = |(at, handle): (usize, &&str)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
            entry.receipt_handle(*handle).build().map_err(|error| not_built(&error))
        };
        let answer = match handles.iter().enumerate().map(entry).collect() {
            Ok(entries) => self.delete_batch(url, entries, until).await,
            Err(error) => Err(error),
        };
        sorted(handles.len(), answer)
    }

    async fn delete_batch(
        &self,
        url: &str,
        entries: Vec<DeleteMessageBatchRequestEntry>,
        until: Instant,
    ) -> Result<Answers, QueueError> {
        let request = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = self.by(until, Box::pin(request.send())).await?;
        let done = answer.successful.into_iter().map(|one| (one.id, None));
        Ok(Answers { done: done.collect(), refused: answer.failed })
    }

    /// Nobody is to claim those for so long, from now.
    pub(super) async fn hide(
        &self,
        url: &str,
        handles: &[(&str, Duration)],
        until: Instant,
    ) -> Vec<Said> {
        let mut batches = Vec::new();
        for batch in handles.chunks(BATCH) {
            batches.push(self.hide_some(url, batch, until));
        }
        stream::iter(batches).buffered(AT_ONCE).concat().await
    }

    async fn hide_some(
        &self,
        url: &str,
        handles: &[(&str, Duration)],
        until: Instant,
    ) -> Vec<Said> {
        let entry = |(at, (handle, time)): (usize, &(&str, Duration))| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
            let entry = entry.receipt_handle(*handle).visibility_timeout(seconds(*time));
            entry.build().map_err(|error| not_built(&error))
        };
        let answer = match handles.iter().enumerate().map(entry).collect() {
            Ok(entries) => self.hide_batch(url, entries, until).await,
            Err(error) => Err(error),
        };
        sorted(handles.len(), answer)
    }

    async fn hide_batch(
        &self,
        url: &str,
        entries: Vec<ChangeMessageVisibilityBatchRequestEntry>,
        until: Instant,
    ) -> Result<Answers, QueueError> {
        let request = self.client.change_message_visibility_batch().queue_url(url);
        let request = request.set_entries(Some(entries));
        let answer = self.by(until, Box::pin(request.send())).await?;
        let done = answer.successful.into_iter().map(|one| (one.id, None));
        Ok(Answers { done: done.collect(), refused: answer.failed })
    }

    /// The URL of the queue of that name.
    pub(super) async fn url(
        &self,
        name: &str,
        account: Option<&str>,
    ) -> Result<String, QueueError> {
        let request = self.client.get_queue_url().queue_name(name);
        let request = request.set_queue_owner_aws_account_id(account.map(str::to_owned));
        let answer = self.within(self.bound, Box::pin(request.send())).await?;
        let missing = || of_code("QueueDoesNotExist", &format!("no URL of {name}"));
        answer.queue_url.ok_or_else(missing)
    }

    pub(super) async fn create(&self, name: &str, is_fifo: bool) -> Result<(), QueueError> {
        let mut request = self.client.create_queue().queue_name(name);
        if is_fifo {
            request = request.attributes(QueueAttributeName::FifoQueue, "true");
        }
        self.within(self.bound, Box::pin(request.send())).await.map(|_| ())
    }

    /// Whether the queue is there, and may be asked.
    pub(super) async fn look(&self, url: &str) -> Result<(), QueueError> {
        let request = self.client.get_queue_attributes().queue_url(url);
        let request = request.attribute_names(QueueAttributeName::QueueArn);
        self.within(self.bound, Box::pin(request.send())).await.map(|_| ())
    }

    /// One of many requests of a call: not sent at all once its time is over.
    async fn by<T, E, R>(
        &self,
        until: Instant,
        request: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, QueueError>
    where
        E: std::error::Error + ProvideErrorMetadata + std::marker::Send + Sync + 'static,
        R: std::fmt::Debug + std::marker::Send + Sync + 'static,
    {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = format!("not sent within {} ms", self.bound.as_millis());
            return Err(QueueError::unavailable(text));
        }
        match timeout(left, request).await {
            Ok(answer) => answer.map_err(|error| mapped(&error)),
            Err(_) => Err(QueueError::timed_out(self.bound)),
        }
    }

    async fn within<T, E, R>(
        &self,
        bound: Duration,
        request: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, QueueError>
    where
        E: std::error::Error + ProvideErrorMetadata + std::marker::Send + Sync + 'static,
        R: std::fmt::Debug + std::marker::Send + Sync + 'static,
    {
        match timeout(bound, request).await {
            Ok(answer) => answer.map_err(|error| mapped(&error)),
            Err(_) => Err(QueueError::timed_out(bound)),
        }
    }
}

/// What a batch answers, entry by entry, in no order.
struct Answers {
    done: HashMap<String, Option<String>>,
    refused: Vec<BatchResultErrorEntry>,
}

/// An answer for each of so many entries, in their order.
fn sorted(count: usize, answer: Result<Answers, QueueError>) -> Vec<Said> {
    let mut answers = match answer {
        Ok(answers) => answers,
        Err(error) => return (0..count).map(|_| Said::Failed(again(&error))).collect(),
    };
    let one = |at: usize| {
        let id = at.to_string();
        if let Some(message) = answers.done.remove(&id) {
            return Said::Done(message);
        }
        match answers.refused.iter().position(|entry| entry.id == id) {
            Some(at) => Said::Refused(answers.refused.swap_remove(at)),
            None => Said::Failed(QueueError::unanswered("SQS says nothing of an entry".to_owned())),
        }
    };
    (0..count).map(one).collect()
}

/// The same error again.
pub(super) fn again(error: &QueueError) -> QueueError {
    match error {
        QueueError::Closed => QueueError::Closed,
        QueueError::Denied(source) => QueueError::Denied(source.to_string().into()),
        QueueError::Invalid { what } => QueueError::Invalid { what: what.clone() },
        QueueError::NotPrepared { what } => QueueError::NotPrepared { what: what.clone() },
        QueueError::Unavailable(source) if error.is_unanswered() => {
            QueueError::unanswered(source.to_string())
        }
        QueueError::Unavailable(source) => QueueError::unavailable(source.to_string()),
        QueueError::Unsupported { what } => QueueError::Unsupported { what: what.clone() },
    }
}

/// Batches of ten at most, and of no more bytes than a request may have.
fn batches(messages: &[Send]) -> Vec<&[Send]> {
    let (mut batches, mut rest) = (Vec::new(), messages);
    while !rest.is_empty() {
        let mut size = 0;
        let fits = rest.iter().take(BATCH).take_while(|message| {
            size += message.content.size();
            size <= REQUEST_MOST
        });
        let (batch, others) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = others;
    }
    batches
}

fn entry(at: usize, message: &Send) -> Result<SendMessageBatchRequestEntry, QueueError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(at.to_string())
        .message_body(&message.content.body)
        .set_message_attributes(Some(attributes(&message.content.attributes)?));
    if let Some((group, id)) = &message.fifo {
        entry = entry.message_group_id(group).message_deduplication_id(id);
    } else {
        entry = entry.delay_seconds(message.delay);
    }
    entry.build().map_err(|error| not_built(&error))
}

fn attributes(
    texts: &BTreeMap<String, String>,
) -> Result<HashMap<String, MessageAttributeValue>, QueueError> {
    let one = |(name, value): (&String, &String)| {
        let built = MessageAttributeValue::builder().data_type("String").string_value(value);
        Ok((name.clone(), built.build().map_err(|error| not_built(&error))?))
    };
    texts.iter().map(one).collect()
}

fn not_built(error: &aws_sdk_sqs::error::BuildError) -> QueueError {
    QueueError::Invalid { what: format!("a request cannot be built: {error}") }
}

/// Whole seconds, which are all that SQS knows: no job is claimable before its time.
pub(super) fn seconds(time: Duration) -> i32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// What SQS takes in one request.
pub(super) const BATCH: usize = 10;
/// How many requests of one call are under way.
const AT_ONCE: usize = 8;
const REQUEST_MOST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Push;

    #[test]
    fn batches_have_ten_entries_and_fit_into_a_request() {
        let message = |size: usize| {
            let content = Content::of(&Push::new("a", "x".repeat(size))).expect("it fits");
            Send { content, delay: 0, fifo: None }
        };
        let sizes = |messages: &[Send]| batches(messages).iter().map(|b| b.len()).collect();
        let small: Vec<usize> = sizes(&(0..25).map(|_| message(1)).collect::<Vec<_>>());
        assert_eq!(small, [10, 10, 5]);
        let large: Vec<usize> = sizes(&[100, 200, 1, 250].map(|kib| message(kib * 1000)));
        assert_eq!(large, [1, 2, 1]);
        assert!(batches(&[]).is_empty());
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(
            [0, 1, 999, 1000, 1001].map(Duration::from_millis).map(seconds),
            [0, 1, 1, 1, 2]
        );
    }

    #[test]
    fn each_entry_has_its_answer() {
        let refused = BatchResultErrorEntry::builder().id("1").sender_fault(false).code("x");
        let done = HashMap::from([("2".to_owned(), Some("m".to_owned()))]);
        let answers = Answers { done, refused: vec![refused.build().expect("an entry")] };
        let said = sorted(3, Ok(answers));
        assert!(matches!(&said[..], [Said::Failed(_), Said::Refused(_), Said::Done(Some(_))]));
    }
}
