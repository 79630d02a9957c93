//! Telling SQS what became of claims, many at a time, and what it said of each.

use std::time::Duration;

use tokio::time::Instant;

use super::calls::{Said, Send, again};
use super::fault::{is_lost, of_entry};
use super::held::Claim;
use super::{SqsQueue, Urls};
use crate::error::QueueError;
use crate::queue::{Fail, Settled};

/// What may be said again when nobody knows whether it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// A deletion: it deletes nothing else.
    Always,
    /// A visibility: once the message is another's, it would be taken from them.
    IfNotHeard,
}

impl SqsQueue {
    /// Those claims are claimable after their delays.
    pub(super) async fn hide(
        &self,
        claims: Vec<Option<Claim>>,
        delays: Vec<Duration>,
    ) -> Vec<Settled> {
        let delays: Vec<_> = claims
            .iter()
            .zip(delays)
            .filter_map(|(claim, delay)| Some(delay.min(claim.as_ref()?.longest_delay())))
            .collect();
        self.settle(Again::IfNotHeard, claims, async |urls, claims, until| {
            let handles = claims.iter().map(|claim| claim.handle.as_str()).zip(delays);
            self.calls.hide(&urls.main, &handles.collect::<Vec<_>>(), until).await
        })
        .await
    }

    /// Copies those claims' messages to the dead letters, and deletes those that are there.
    pub(super) async fn bury(&self, claims: Vec<Option<Claim>>, jobs: &[Fail]) -> Vec<Settled> {
        let errors: Vec<_> = claims
            .iter()
            .zip(jobs)
            .filter(|(claim, _)| claim.is_some())
            .map(|(_, job)| job.error.clone())
            .collect();
        self.settle(Again::Always, claims, async |urls, claims, until| {
            let copy = |(claim, error): (&Claim, &String)| {
                let group = claim.group.clone();
                // The same copy has the same id, should it be sent again.
                let fifo = group.map(|group| (group, claim.id.as_str().to_owned()));
                Send { content: claim.content.dead(error, claim.attempt), delay: 0, fifo }
            };
            let copies: Vec<_> = claims.iter().zip(&errors).map(copy).collect();
            let mut said = self.calls.send(&urls.dead, &copies, until).await;
            let sent: Vec<_> =
                (0..said.len()).filter(|at| matches!(said[*at], Said::Done(_))).collect();
            let handles: Vec<_> = sent.iter().map(|at| claims[*at].handle.as_str()).collect();
            let deleted = self.calls.delete(&urls.main, &handles, until).await;
            for (at, one) in sent.into_iter().zip(deleted) {
                said[at] = one;
            }
            said
        })
        .await
    }

    /// Settles those that are held, and says so of each.
    pub(super) async fn settle(
        &self,
        repeat: Again,
        claims: Vec<Option<Claim>>,
        tell: impl AsyncFnOnce(&Urls, &[Claim], Instant) -> Vec<Said>,
    ) -> Vec<Settled> {
        let urls = match self.urls().await {
            Ok(urls) => urls,
            Err(error) => {
                return claims.iter().map(|_| Settled::Retry(again(&error))).collect();
            }
        };
        let held: Vec<_> = claims.iter().flatten().cloned().collect();
        let mut said = if held.is_empty() {
            Vec::new().into_iter()
        } else {
            tell(urls, &held, self.until()).await.into_iter()
        };
        let mut one = |claim: &Option<Claim>| {
            let Some(claim) = claim else { return Settled::Lost };
            let settled = match said.next() {
                Some(Said::Done(_)) => Settled::Done,
                Some(Said::Refused(entry)) if is_lost(&entry) => Settled::Lost,
                Some(Said::Refused(entry)) => Settled::Retry(of_entry(&entry)),
                Some(Said::Failed(error)) => Settled::Retry(error),
                None => Settled::Retry(QueueError::timed_out(self.calls.bound)),
            };
            let is_over = match &settled {
                Settled::Retry(error) => repeat == Again::IfNotHeard && error.is_unanswered(),
                _ => true,
            };
            if is_over {
                self.shared.held.forget(&claim.handle);
            }
            settled
        };
        claims.iter().map(&mut one).collect()
    }
}
