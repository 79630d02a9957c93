//! Publishing: confirmed, and an answer for each message.
//!
//! What no queue takes comes back ahead of its confirm. The client hands it to whichever confirm
//! of the channel is answered next, and answers those that come together in any order: whose it
//! is can only be told from what came back.
//!
//! Not here: what is acknowledged once a copy is there (`settle`).
//!
//! # Invariants
//! 1. A confirm is believed after all confirms of its channel that were answered before it have
//!    been looked at, for one of them may have brought its message back.
//! 2. What is larger than anything that the broker has taken is alone on a channel: a message that
//!    is too large for the broker ends its channel, and all that is on it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use slab::Slab;

use super::AmqpQueue;
use super::fault::Fault;
use super::link::Line;
use super::message::Content;
use super::topology::{self, To};

/// The confirms that one channel waits for.
pub(super) struct Confirms(Mutex<State>);

struct State {
    waiting: Slab<Waiting>,
    /// What came back, and has not been told to whom it belongs.
    returned: Vec<Address>,
    /// The largest body that the broker is known to take.
    largest: usize,
}

struct Waiting {
    confirm: PublisherConfirm,
    /// Whom to wake.
    waker: Option<Waker>,
    said: Option<Result<(), Fault>>,
}

/// What tells a message from others on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    exchange: String,
    key: String,
    id: String,
}

impl Address {
    fn of(name: &str, to: To, content: &Content) -> Self {
        let (exchange, key) = topology::route(name, to);
        Self { exchange, key, id: content.id.as_str().to_owned() }
    }
}

impl Default for Confirms {
    fn default() -> Self {
        let state = State { waiting: Slab::new(), returned: Vec::new(), largest: SURE };
        Self(Mutex::new(state))
    }
}

impl Confirms {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, confirm: PublisherConfirm) -> usize {
        self.state().waiting.insert(Waiting { confirm, waker: None, said: None })
    }

    async fn answered(&self, key: usize) {
        poll_fn(|context| {
            let mut state = self.state();
            state.waiting[key].waker = Some(context.waker().clone());
            state.look(key)
        })
        .await;
    }

    /// What became of those, all of which are answered. Nobody may be about to add one that is
    /// on its way already.
    fn end(&self, sent: Vec<(Result<usize, Fault>, Address)>) -> Vec<Result<(), Fault>> {
        let mut state = self.state();
        let keys: Vec<_> = state.waiting.iter().map(|(key, _)| key).collect();
        for key in keys {
            // What is not answered now was not answered before ours.
            let _unanswered = state.look(key).is_pending();
        }
        let one = |(key, address): (Result<usize, Fault>, Address)| {
            let said = state.waiting.remove(key?).said.unwrap_or(Err(Fault::Closed));
            match state.returned.iter().position(|other| *other == address) {
                Some(at) => Err(Fault::Unroutable(state.returned.swap_remove(at).key)),
                None => said,
            }
        };
        sent.into_iter().map(one).collect()
    }

    fn largest(&self) -> usize {
        self.state().largest
    }

    fn took(&self, bytes: usize) {
        let mut state = self.state();
        state.largest = state.largest.max(bytes);
    }
}

impl State {
    /// Whether that one is answered; whoever waits for it is woken if not.
    fn look(&mut self, key: usize) -> Poll<()> {
        let one = &mut self.waiting[key];
        if one.said.is_some() {
            return Poll::Ready(());
        }
        let mut context = Context::from_waker(one.waker.as_ref().unwrap_or(Waker::noop()));
        let Poll::Ready(answer) = Pin::new(&mut one.confirm).poll(&mut context) else {
            return Poll::Pending;
        };
        let (said, returned) = match answer {
            Ok(Confirmation::Ack(returned)) => (Ok(()), returned),
            Ok(Confirmation::Nack(returned)) => (Err(Fault::Refused), returned),
            Ok(Confirmation::NotRequested) => (Ok(()), None),
            Err(error) => (Err(error.into()), None),
        };
        one.said = Some(said);
        if let Some(message) = returned {
            let message = message.delivery;
            let id = message.properties.message_id().as_ref();
            self.returned.push(Address {
                exchange: message.exchange.to_string(),
                key: message.routing_key.to_string(),
                id: id.map(ToString::to_string).unwrap_or_default(),
            });
        }
        Poll::Ready(())
    }
}

impl AmqpQueue {
    /// Publishes, in their order, and says of each whether the broker has it. Never dropped: on a
    /// task of its own.
    pub(super) async fn publish(&self, messages: &[&(To, Content)]) -> Vec<Result<(), Fault>> {
        let mut said = Vec::with_capacity(messages.len());
        let mut rest = messages;
        // Bound: each turn takes one at least.
        while let Some((first, others)) = rest.split_first() {
            let line = match self.shared.messages.line(self.call_bound).await {
                Ok(line) => line,
                Err(fault) => {
                    said.extend(rest.iter().map(|_| Err(fault.clone())));
                    break;
                }
            };
            let largest = line.confirms.largest();
            let sure = rest.iter().take_while(|(_, content)| content.size() <= largest).count();
            if sure == 0 {
                said.push(Box::pin(self.publish_alone(&line, first)).await);
                rest = others;
            } else {
                said.extend(Box::pin(self.publish_or_alone(&line, &rest[..sure])).await);
                rest = &rest[sure..];
            }
        }
        said
    }

    /// Together; and where the broker has ended their channel because of one of them, nobody knows
    /// of which, each alone. The others may be there twice then.
    async fn publish_or_alone(
        &self,
        line: &Line,
        messages: &[&(To, Content)],
    ) -> Vec<Result<(), Fault>> {
        let mut said = self.publish_together(line, messages).await;
        for (said, message) in said.iter_mut().zip(messages) {
            if said.as_ref().is_err_and(Fault::ends_channel)
                && let Ok(line) = self.shared.messages.line(self.call_bound).await
            {
                *said = Box::pin(self.publish_alone(&line, message)).await;
            }
        }
        said
    }

    async fn publish_together(
        &self,
        line: &Line,
        messages: &[&(To, Content)],
    ) -> Vec<Result<(), Fault>> {
        let bodies: Vec<_> = messages.iter().map(|(_, content)| content.body()).collect();
        let sending = line.sending.lock().await;
        let mut sends = Vec::with_capacity(messages.len());
        for ((to, content), body) in messages.iter().zip(&bodies) {
            let mut send = Box::pin(self.send(&line.channel, *to, content, body));
            // A first poll puts it on its way: in this order, whatever wakes first.
            let sent = (&mut send).now_or_never();
            sends.push(async move {
                match sent {
                    Some(sent) => sent,
                    None => send.await,
                }
            });
        }
        let sent = join_all(sends).await.into_iter();
        let sent: Vec<_> = sent.map(|sent| Ok(line.confirms.add(sent?))).collect();
        drop(sending);
        for key in sent.iter().flatten() {
            line.confirms.answered(*key).await;
        }
        let address = |(to, content): &&(To, Content)| Address::of(&self.shared.name, *to, content);
        let sent = sent.into_iter().zip(messages.iter().map(address)).collect();
        // Whoever was sending has added what is on its way.
        let _sending = line.sending.lock().await;
        line.confirms.end(sent)
    }

    /// On a channel of its own. A checkpoint that makes a message too large for the broker is left
    /// out: the job was small enough without.
    async fn publish_alone(&self, line: &Line, (to, content): &(To, Content)) -> Result<(), Fault> {
        match self.publish_aside(line, *to, content).await {
            Err(fault) if fault.is_too_large() && content.checkpoint.is_some() => {
                tracing::warn!(job = %content.id.as_str(), "a checkpoint is too large, and is lost");
                let content = Content { checkpoint: None, ..content.clone() };
                self.publish_aside(line, *to, &content).await
            }
            said => said,
        }
    }

    async fn publish_aside(&self, line: &Line, to: To, content: &Content) -> Result<(), Fault> {
        let channel = line.aside().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let body = content.body();
        match self.send(&channel, to, content, &body).await?.await? {
            Confirmation::Ack(None) | Confirmation::NotRequested => {
                line.confirms.took(body.len());
                Ok(())
            }
            Confirmation::Nack(None) => Err(Fault::Refused),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                Err(Fault::Unroutable(topology::route(&self.shared.name, to).1))
            }
        }
    }

    async fn send(
        &self,
        channel: &Channel,
        to: To,
        content: &Content,
        body: &Bytes,
    ) -> Result<PublisherConfirm, Fault> {
        let (exchange, key) = topology::route(&self.shared.name, to);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (exchange, key) = (topology::short(&exchange)?, topology::short(&key)?);
        let properties = content.properties();
        Ok(channel.basic_publish(exchange, key, options, body, properties).await?)
    }
}

/// No broker is set to take less.
const SURE: usize = 64 << 10;
