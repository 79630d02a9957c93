//! [`SqsQueue`] as a queue.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::address::{FIFO, dead_name};
use super::calls::{BATCH, Said, Send, again, seconds};
use super::fault::{is_lost, of_entry};
use super::held::Claim;
use super::message::{Content, PAYLOAD_MOST, text};
use super::settle::Again;
use super::{LONGEST, SECOND, SqsQueue, Urls};
use crate::capabilities::{Attempt, Capabilities, Lease, Place, ReleaseCapabilities};
use crate::claimed::{Claimed, JobId, Receipt};
use crate::error::QueueError;
use crate::push::{Push, Pushed};
use crate::queue::{Extend, Extended, Fail, Next, Queue, Release, Settled};
use crate::stats::{DeadJob, Stats};

impl Queue for SqsQueue {
    fn name(&self) -> &str {
        &self.shared.address.name
    }

    fn capabilities(&self) -> Capabilities {
        let mut release = ReleaseCapabilities::new(Place::Unordered, Attempt::Counted);
        release.delay = true;
        let lease = Lease::Timed { period: self.lease, longest: Some(LONGEST) };
        let mut can = Capabilities::new(lease).with_release(release);
        can.delay = !self.is_fifo();
        can.payload_most = PAYLOAD_MOST;
        // What is beyond the poll is the way there and back.
        can.with_call_bound(self.calls.bound).with_interrupt_bound(self.longest_poll() + SECOND)
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        self.open()?;
        let name = self.name().to_owned();
        for name in [dead_name(&name), name] {
            let account = self.shared.address.account.as_deref();
            // Asked first: one who may use a queue need not be one who may create it.
            match self.calls.url(&name, account).await {
                Err(QueueError::NotPrepared { .. }) => {
                    self.calls.create(&name, self.is_fifo()).await?;
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        self.urls().await.map(|_| ())
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let urls = self.urls().await?;
        self.calls.look(&urls.main).await?;
        self.calls.look(&urls.dead).await
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        let messages: Vec<_> =
            jobs.iter().map(|job| self.message(job)).collect::<Result<_, _>>()?;
        let urls = self.urls().await?;
        let said = self.calls.send(&urls.main, &messages, self.until()).await;
        let one = |said: Said| match said {
            Said::Done(id) => Ok(Pushed::New(JobId::new(id.unwrap_or_default()))),
            Said::Refused(entry) => Err(of_entry(&entry)),
            Said::Failed(error) => Err(error),
        };
        said.into_iter().map(one).collect()
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        let mut interrupts = self.shared.interrupts.subscribe();
        let until = Instant::now() + wait.min(WAIT_MOST);
        let urls = self.urls().await?;
        // Bound: `until`, and each poll has its own.
        loop {
            self.open()?;
            let left = until.saturating_duration_since(Instant::now());
            let poll = Duration::from_secs(left.min(self.longest_poll()).as_secs());
            // Of a FIFO queue one at a time: a group is blocked while one of its messages is
            // claimed, but one receive may have several of it.
            let max = if self.is_fifo() { 1 } else { max.get() };
            let claimed = self.receive(urls, max, poll, &interrupts).await?;
            let is_told = interrupts.has_changed().unwrap_or(true);
            if !claimed.is_empty() || left.is_zero() || is_told {
                return Ok(claimed);
            }
            // Less than a second cannot be waited for at SQS.
            if poll.is_zero() && timeout(left.min(SHORT_POLL), interrupts.changed()).await.is_ok() {
                return Ok(Vec::new());
            }
        }
    }

    async fn interrupt(&self) {
        self.shared.interrupts.send_modify(|count| *count += 1);
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let claims = receipts.iter().map(|receipt| self.shared.held.claim(receipt)).collect();
        self.settle(Again::Always, claims, async |urls, claims, until| {
            let handles: Vec<_> = claims.iter().map(|claim| claim.handle.as_str()).collect();
            self.calls.delete(&urls.main, &handles, until).await
        })
        .await
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        let claims = jobs.iter().map(|job| self.shared.held.claim(&job.receipt)).collect();
        self.hide(claims, jobs.iter().map(|job| job.delay).collect()).await
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        let claim = |job: &Fail, is_dead: bool| {
            let fits = matches!(job.next, Next::Dead) == is_dead;
            self.shared.held.claim(&job.receipt).filter(|_| fits)
        };
        let later = |job: &Fail| match job.next {
            Next::Retry(delay) => delay,
            Next::Dead => Duration::ZERO,
        };
        let retried = jobs.iter().map(|job| claim(job, false)).collect();
        let retried = self.hide(retried, jobs.iter().map(later).collect()).await;
        let buried = jobs.iter().map(|job| claim(job, true)).collect();
        let buried = self.bury(buried, jobs).await;
        let chosen = jobs.iter().zip(retried.into_iter().zip(buried));
        chosen.map(|(job, (r, b))| if job.next == Next::Dead { b } else { r }).collect()
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        let ends = Instant::now() + self.lease;
        let claims: Vec<_> = jobs.iter().map(|job| self.shared.held.claim(&job.receipt)).collect();
        let urls = match self.urls().await {
            Ok(urls) => urls,
            Err(error) => return jobs.iter().map(|_| Extended::Retry(again(&error))).collect(),
        };
        let held: Vec<_> = claims.iter().flatten().collect();
        let handles: Vec<_> =
            held.iter().map(|claim| (claim.handle.as_str(), self.lease)).collect();
        let said = self.calls.hide(&urls.main, &handles, self.until()).await;
        let mut said = said.into_iter();
        let mut one = |claim: &Option<Claim>| {
            let Some(claim) = claim else { return Extended::Lost };
            match said.next() {
                Some(Said::Done(_)) => {
                    self.shared.held.extended(&claim.handle, ends);
                    Extended::Until(ends)
                }
                Some(Said::Refused(entry)) if is_lost(&entry) => {
                    self.shared.held.forget(&claim.handle);
                    Extended::Lost
                }
                Some(Said::Refused(entry)) => Extended::Retry(of_entry(&entry)),
                Some(Said::Failed(error)) => Extended::Retry(error),
                None => Extended::Retry(QueueError::timed_out(self.calls.bound)),
            }
        };
        claims.iter().map(&mut one).collect()
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.open()?;
        Err(unsupported("SQS counts its messages only by estimate"))
    }

    async fn dead(&self, _max: NonZeroUsize) -> Result<Vec<DeadJob>, QueueError> {
        self.open()?;
        let dead = dead_name(self.name());
        Err(unsupported(&format!("SQS lists no messages; dead letters are in the queue {dead}")))
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.shared.is_closed.send_replace(true);
        self.interrupt().await;
        Ok(())
    }
}

impl SqsQueue {
    fn is_fifo(&self) -> bool {
        self.name().ends_with(FIFO)
    }

    fn open(&self) -> Result<(), QueueError> {
        if *self.shared.is_closed.borrow() { Err(QueueError::Closed) } else { Ok(()) }
    }

    /// When a call that begins now has to have its answers.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.calls.bound
    }

    pub(super) async fn urls(&self) -> Result<&Urls, QueueError> {
        self.open()?;
        let (name, account) = (self.name(), self.shared.address.account.as_deref());
        let asked = async || {
            let main = self.calls.url(name, account).await?;
            let dead = self.calls.url(&dead_name(name), account).await?;
            Ok(Urls { main, dead })
        };
        self.shared.urls.get_or_try_init(asked).await
    }

    fn message(&self, job: &Push) -> Result<Send, QueueError> {
        if job.priority_value() != 0 {
            return Err(unsupported("SQS has no priorities"));
        }
        let content = Content::of(job)?;
        if self.is_fifo() {
            if !job.delayed_by().is_zero() {
                return Err(unsupported("a FIFO queue of SQS delays no single job"));
            }
            let group = job.headers().iter().find(|(name, _)| name == GROUP);
            let group = group.map_or(job.kind(), |(_, group)| group).to_owned();
            let id = job.dedupe_key().map(|dedupe| dedupe.key.clone());
            let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
            if !is_token(&group) || !is_token(&id) {
                let what = format!(
                    "a group and a dedupe key of SQS are 1 to 128 letters, digits and \
                     punctuation, and {group:?} or {id:?} is not"
                );
                return Err(QueueError::Invalid { what });
            }
            return Ok(Send { content, delay: 0, fifo: Some((group, id)) });
        }
        if job.dedupe_key().is_some() {
            return Err(unsupported("a standard queue of SQS has no dedupe keys"));
        }
        if job.delayed_by() > DELAY_MOST {
            return Err(unsupported("SQS delays a job by 15 minutes at most"));
        }
        Ok(Send { content, delay: seconds(job.delayed_by()), fifo: None })
    }

    /// What can be had now, or within the poll.
    async fn receive(
        &self,
        urls: &Urls,
        max: usize,
        poll: Duration,
        interrupts: &watch::Receiver<u64>,
    ) -> Result<Vec<Claimed>, QueueError> {
        let mut all = Vec::new();
        let mut poll = poll;
        let by = Instant::now() + poll + self.calls.bound;
        while all.len() < max {
            // What has come is held, and its leases run.
            let is_told = interrupts.has_changed().unwrap_or(true);
            if !all.is_empty() && (is_told || Instant::now() >= by) {
                break;
            }
            let asked = (max - all.len()).min(BATCH);
            // Before the request: the lease may have begun that early.
            let received = Instant::now();
            let ends = received + self.lease;
            let messages = match self.calls.receive(&urls.main, asked, poll, self.lease).await {
                Ok(messages) => messages,
                Err(error) if all.is_empty() => return Err(error),
                // What has come is held: the next claim meets the error.
                Err(_) => break,
            };
            let count = messages.len();
            let claims: Vec<_> =
                messages.into_iter().filter_map(|one| claim(one, received, ends)).collect();
            all.extend(claims.iter().map(claimed));
            self.shared.held.take(claims);
            if count < asked {
                break;
            }
            poll = Duration::ZERO;
        }
        Ok(all)
    }
}

/// A message as a claim; none without what SQS always sends.
fn claim(message: Message, received: Instant, ends: Instant) -> Option<Claim> {
    let system = message.attributes.unwrap_or_default();
    let count = system.get(&MessageSystemAttributeName::ApproximateReceiveCount);
    let attempt = count.and_then(|count| count.parse().ok()).unwrap_or(1);
    let attributes = message.message_attributes.unwrap_or_default();
    let attributes = attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let content = Content { body: message.body.unwrap_or_default(), attributes };
    Some(Claim {
        id: JobId::new(message.message_id?),
        handle: message.receipt_handle?,
        content: Arc::new(content),
        attempt,
        group: system.get(&MessageSystemAttributeName::MessageGroupId).cloned(),
        received,
        ends,
    })
}

fn claimed(claim: &Claim) -> Claimed {
    let receipt = Receipt::new(claim.id.clone(), claim.attempt.into());
    let receipt = receipt.with_text(claim.handle.as_str());
    Claimed::new(receipt, claim.content.kind(), claim.content.payload())
        .attempt(claim.attempt)
        .headers(claim.content.headers())
        .lease_ends(claim.ends)
}

fn is_token(text: &str) -> bool {
    (1..=TOKEN_MOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn unsupported(what: &str) -> QueueError {
    QueueError::Unsupported { what: what.to_owned() }
}

const GROUP: &str = "group";
const TOKEN_MOST: usize = 128;
const DELAY_MOST: Duration = Duration::from_secs(900);
const SHORT_POLL: Duration = Duration::from_millis(100);
/// A day: longer waits are this long.
const WAIT_MOST: Duration = Duration::from_secs(24 * 3600);
