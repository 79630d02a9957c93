//! Settling: each a request that the server answers, many at a time.

use std::future::Future;

use async_nats::RequestErrorKind;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::claim::delivery;
use super::held::Entry;
use super::message::Dead;
use super::refusal::is_not_taken;
use super::{CONSUMER_API, NatsQueue, fault};
use crate::claimed::Receipt;
use crate::error::QueueError;
use crate::queue::{Extend, Extended, Fail, Next, Release, Settled};

impl NatsQueue {
    pub(super) async fn ack_all(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let each = |receipt: Receipt| self.settle(receipt, AckKind::Ack);
        self.each(receipts.iter().map(|receipt| each(receipt.clone()))).await
    }

    pub(super) async fn release_all(&self, jobs: &[Release]) -> Vec<Settled> {
        let each = |job: &Release| self.give_back(job.receipt.clone(), job.delay);
        self.each(jobs.iter().map(each)).await
    }

    pub(super) async fn fail_all(&self, jobs: &[Fail]) -> Vec<Settled> {
        self.each(jobs.iter().map(|job| self.fail_one(job.clone()))).await
    }

    pub(super) async fn extend_all(&self, jobs: &[Extend]) -> Vec<Extended> {
        self.each(jobs.iter().map(|job| self.extend_one(job.receipt.clone()))).await
    }

    /// So many at a time, and the answers in their order.
    async fn each<T, F: Future<Output = T>>(&self, calls: impl Iterator<Item = F>) -> Vec<T> {
        let calls: Vec<_> = calls.collect();
        stream::iter(calls).buffered(AT_ONCE).collect().await
    }

    async fn settle(&self, receipt: Receipt, kind: AckKind) -> Settled {
        match self.entry(&receipt) {
            Err(error) => Settled::Retry(error),
            Ok(None) => Settled::Lost,
            Ok(Some(entry)) => match self.say(&entry, kind).await {
                Ok(()) => {
                    self.shared.held.remove(&receipt);
                    Settled::Done
                }
                Err(error) => Settled::Retry(error),
            },
        }
    }

    /// Said once, unless nobody has heard it: a second one could meet a delivery to somebody else.
    async fn give_back(&self, receipt: Receipt, delay: std::time::Duration) -> Settled {
        match self.entry(&receipt) {
            Err(error) => Settled::Retry(error),
            Ok(None) => Settled::Lost,
            Ok(Some(entry)) => {
                // Before: who waits for the answer may give up.
                self.shared.held.remove(&receipt);
                let delay = (!delay.is_zero()).then_some(delay);
                match self.tell(&entry, AckKind::Nak(delay)).await {
                    Ok(()) => Settled::Done,
                    Err((Heard::Perhaps, error)) => Settled::Retry(error),
                    Err((Heard::ByNobody, error)) => {
                        self.shared.held.keep(&receipt, entry);
                        Settled::Retry(error)
                    }
                }
            }
        }
    }

    async fn fail_one(&self, job: Fail) -> Settled {
        match job.next {
            Next::Retry(delay) => self.give_back(job.receipt, delay).await,
            Next::Dead => match self.entry(&job.receipt) {
                Err(error) => Settled::Retry(error),
                Ok(None) => Settled::Lost,
                Ok(Some(entry)) => match self.bury(&entry, &job.error).await {
                    Ok(()) => self.settle(job.receipt, AckKind::Term).await,
                    Err(error) => Settled::Retry(error),
                },
            },
        }
    }

    /// Writes the dead letter, once however often that is tried: the stream knows its id.
    async fn bury(&self, entry: &Entry, error: &str) -> Result<(), QueueError> {
        let place = delivery(entry.reply.as_str()).map_or(0, |(_, sequence)| sequence);
        let dead = Dead { place, attempts: entry.attempt, error };
        let headers = entry.content.dead_header_map(dead, self.shared.client.max_payload());
        let payload = entry.content.payload.clone();
        let names = &self.shared.names;
        let subject = names.dead_subject.clone();
        let sent = self.publish(subject, headers, payload).await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => Err(self.not_taken(error, &names.dead_stream).await),
        }
    }

    async fn extend_one(&self, receipt: Receipt) -> Extended {
        match self.entry(&receipt) {
            Err(error) => Extended::Retry(error),
            Ok(None) => Extended::Lost,
            Ok(Some(entry)) => {
                let ends = Instant::now() + self.lease;
                match self.say(&entry, AckKind::Progress).await {
                    Ok(()) => {
                        self.shared.held.extended(&receipt, ends);
                        Extended::Until(ends)
                    }
                    Err(error) => Extended::Retry(error),
                }
            }
        }
    }

    /// The claim, if it is ours, and there is somebody to tell.
    fn entry(&self, receipt: &Receipt) -> Result<Option<Entry>, QueueError> {
        self.open()?;
        let entry = self.shared.held.get(receipt);
        if entry.is_some() {
            // What is said without a connection would go out when there is one, too late.
            self.connected()?;
        }
        Ok(entry)
    }

    async fn say(&self, entry: &Entry, kind: AckKind) -> Result<(), QueueError> {
        self.tell(entry, kind).await.map_err(|(_, error)| error)
    }

    async fn tell(&self, entry: &Entry, kind: AckKind) -> Result<(), (Heard, QueueError)> {
        let until = Instant::now() + self.call_bound;
        let request = self.shared.client.request(entry.reply.clone(), Bytes::from(kind));
        let asking = async {
            match request.await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(false),
                Err(error) => Err(fault::of_request(error)),
            }
        };
        match Box::pin(self.within(&[entry.reply.as_str()], asking)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err((Heard::ByNobody, self.nobody_hears(until).await)),
            Err(error) if is_not_taken(&error) => Err((Heard::ByNobody, error)),
            Err(error) => Err((Heard::Perhaps, error)),
        }
    }

    /// Nobody listens for what is said of a claim: the consumer is not there, or is between two
    /// leaders.
    async fn nobody_hears(&self, until: Instant) -> QueueError {
        self.forget_consumer();
        let looking = self.within(&[CONSUMER_API], Box::pin(self.consumer()));
        match timeout_at(until, Box::pin(looking)).await {
            Ok(Ok(_)) => {
                QueueError::unavailable("the consumer is there, and has no leader just now")
            }
            Ok(Err(error)) => error,
            Err(_) => QueueError::timed_out(self.call_bound),
        }
    }
}

/// Who has heard what was said of a claim, and did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    ByNobody,
    Perhaps,
}

const AT_ONCE: usize = 256;
