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
//!    been looked at, for one of them may have brought its message back. So each message is among
//!    those that wait before the client can send it; and what the client has not sent, since the
//!    broker is short of memory, is not answered, and nobody waits for it but its own call.
//! 2. What is larger than anything that the broker has taken is alone on a channel: a message that
//!    is too large for the broker ends its channel, and all that is on it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
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

/// A message on its way: sent by the first poll, or as soon as the client may send.
type Confirm = BoxFuture<'static, Result<Confirmation, Fault>>;

struct Waiting {
    confirm: Confirm,
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

    /// Sends it: behind those that were added before, which is also how the broker counts them.
    fn add(&self, confirm: Confirm) -> usize {
        let mut state = self.state();
        let key = state.waiting.insert(Waiting { confirm, waker: None, said: None });
        let _unanswered = state.look(key).is_pending();
        key
    }

    async fn answered(&self, key: usize) {
        poll_fn(|context| {
            let mut state = self.state();
            state.waiting[key].waker = Some(context.waker().clone());
            state.look(key)
        })
        .await;
    }

    /// What became of those, all of which are answered.
    fn end(&self, sent: Vec<(usize, Address)>) -> Vec<Result<(), Fault>> {
        let mut state = self.state();
        let keys: Vec<_> = state.waiting.iter().map(|(key, _)| key).collect();
        for key in keys {
            // What is not answered now was not answered before ours.
            let _unanswered = state.look(key).is_pending();
        }
        let one = |(key, address): (usize, Address)| {
            let said = state.waiting.remove(key).said.unwrap_or(Err(Fault::Closed));
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
        let Poll::Ready(answer) = one.confirm.poll_unpin(&mut context) else {
            return Poll::Pending;
        };
        let (said, returned) = match answer {
            Ok(Confirmation::Ack(returned)) => (Ok(()), returned),
            Ok(Confirmation::Nack(returned)) => (Err(Fault::Refused), returned),
            Ok(Confirmation::NotRequested) => (Ok(()), None),
            Err(fault) => (Err(fault), None),
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
                said.extend(Box::pin(self.publish_or_apart(&line, &rest[..sure])).await);
                rest = &rest[sure..];
            }
        }
        said
    }

    /// Together; and where the broker has ended their channel because of a message, nobody knows of
    /// which, apart. The others may be there twice then, but for those that came too late for it.
    async fn publish_or_apart(
        &self,
        line: &Line,
        messages: &[&(To, Content)],
    ) -> Vec<Result<(), Fault>> {
        let mut said = self.publish_together(&line.channel, &line.confirms, messages).await;
        let mut apart: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, (to, _)) in messages.iter().enumerate() {
            if said[at].as_ref().is_err_and(|said| said.refuses_exchange() || said.is_unsent()) {
                let (exchange, _) = topology::route(&self.shared.name, *to);
                apart.entry(exchange).or_default().push(at);
            }
        }
        // What it says of one exchange alone is true of all that is sent there.
        for places in apart.into_values() {
            let Ok(line) = self.shared.messages.line(self.call_bound).await else { continue };
            let some: Vec<_> = places.iter().map(|at| messages[*at]).collect();
            let again = Box::pin(self.publish_aside(&line, &some)).await;
            for (at, again) in places.into_iter().zip(again) {
                said[at] = again;
            }
        }
        for (said, message) in said.iter_mut().zip(messages) {
            if said.as_ref().is_err_and(Fault::is_too_large)
                && let Ok(line) = self.shared.messages.line(self.call_bound).await
            {
                *said = Box::pin(self.publish_alone(&line, message)).await;
            }
        }
        said
    }

    /// A checkpoint that makes a message too large for the broker is left out: the job was small
    /// enough without.
    async fn publish_alone(&self, line: &Line, message: &(To, Content)) -> Result<(), Fault> {
        let mut said = self.publish_aside(line, &[message]).await;
        let (to, content) = message;
        let too_large = matches!(&said[..], [Err(fault)] if fault.is_too_large());
        if too_large && content.checkpoint.is_some() {
            tracing::warn!(job = %content.id.as_str(), "a checkpoint is too large, and is lost");
            let without = (*to, Content { checkpoint: None, ..content.clone() });
            said = self.publish_aside(line, &[&without]).await;
        }
        said.pop().unwrap_or(Err(Fault::Closed))
    }

    /// On a channel of their own, to one exchange: the first one alone.
    async fn publish_aside(
        &self,
        line: &Line,
        messages: &[&(To, Content)],
    ) -> Vec<Result<(), Fault>> {
        let channel = match self.channel_aside(line).await {
            Ok(channel) => channel,
            Err(fault) => return messages.iter().map(|_| Err(fault.clone())).collect(),
        };
        let confirms = Confirms::default();
        // If it is refused, what the client has queued behind it would end the connection.
        let (first, rest) = messages.split_at(messages.len().min(1));
        let mut said = self.publish_together(&channel, &confirms, first).await;
        if let [Err(refusal)] = &said[..]
            && refusal.refuses_exchange()
        {
            let refusal = refusal.clone();
            said.extend(rest.iter().map(|_| Err(refusal.clone())));
            return said;
        }
        said.extend(self.publish_together(&channel, &confirms, rest).await);
        let mut faults = said.iter().filter_map(|said| said.as_ref().err());
        if let Some(refusal) = faults.find(|fault| fault.refuses_exchange()).cloned() {
            for said in said.iter_mut().filter(|said| said.as_ref().is_err_and(Fault::is_unsent)) {
                *said = Err(refusal.clone());
            }
        }
        for (said, (_, content)) in said.iter().zip(messages) {
            if said.as_ref().map_or_else(Fault::is_of_any_size, |()| true) {
                line.confirms.took(content.size());
            }
        }
        said
    }

    async fn channel_aside(&self, line: &Line) -> Result<Channel, Fault> {
        let opened = with_confirms(line).await;
        if !opened.as_ref().is_err_and(Fault::is_of_channel) {
            return opened;
        }
        self.shared.messages.let_go(line);
        let line = self.shared.messages.line(self.call_bound).await?;
        with_confirms(&line).await
    }

    async fn publish_together(
        &self,
        channel: &Channel,
        confirms: &Confirms,
        messages: &[&(To, Content)],
    ) -> Vec<Result<(), Fault>> {
        let send = |message: &&(To, Content)| confirms.add(self.send(channel, message));
        let sent: Vec<_> = messages.iter().map(send).collect();
        for key in &sent {
            confirms.answered(*key).await;
        }
        let address = |(to, content): &&(To, Content)| Address::of(&self.shared.name, *to, content);
        confirms.end(sent.into_iter().zip(messages.iter().map(address)).collect())
    }

    fn send(&self, channel: &Channel, (to, content): &(To, Content)) -> Confirm {
        let (exchange, key) = topology::route(&self.shared.name, *to);
        let (channel, body, properties) = (channel.clone(), content.body(), content.properties());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        Box::pin(async move {
            let (exchange, key) = (topology::short(&exchange)?, topology::short(&key)?);
            let sent = channel.basic_publish(exchange, key, options, &body, properties).await?;
            drop(body);
            Ok(sent.await?)
        })
    }
}

/// A channel aside. Waits as long as the broker reads nothing, and no longer than the connection.
async fn with_confirms(line: &Line) -> Result<Channel, Fault> {
    let opening = async {
        let channel = line.aside().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    line.while_up(Box::pin(opening)).await
}

/// No broker is set to take less.
const SURE: usize = 64 << 10;
