//! The streams of a queue and their consumer: what they are called, what `prepare` makes of them,
//! and whether they are there.

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy};

use super::{NatsQueue, fault};
use crate::error::QueueError;

pub(super) struct Names {
    pub(super) stream: String,
    pub(super) subject: String,
    pub(super) dead_stream: String,
    pub(super) dead_subject: String,
}

impl Names {
    pub(super) fn of(queue: &str) -> Self {
        Self {
            stream: format!("lifecycle-{queue}"),
            subject: format!("lifecycle.{queue}.jobs"),
            dead_stream: format!("lifecycle_dead-{queue}"),
            dead_subject: format!("lifecycle.{queue}.dead"),
        }
    }
}

impl NatsQueue {
    /// The consumer, if it is what this queue takes it for.
    pub(super) async fn consumer(&self) -> Result<PullConsumer, QueueError> {
        if let Some(consumer) = self.known(|known| known.consumer.clone()) {
            return Ok(consumer);
        }
        let (context, stream) = (self.context(), &self.shared.names.stream);
        let found: PullConsumer =
            context.get_consumer_from_stream(CONSUMER, stream).await.map_err(fault::of_api)?;
        let kept = found.cached_info().config.ack_wait;
        if kept != self.lease {
            let what = format!("a lease is {kept:?} at the server, and {:?} here", self.lease);
            return Err(QueueError::NotPrepared { what });
        }
        self.known(|known| known.consumer = Some(found.clone()));
        Ok(found)
    }

    pub(super) fn forget_consumer(&self) {
        self.known(|known| known.consumer = None);
    }

    pub(super) async fn create(&self) -> Result<(), QueueError> {
        let (context, names) = (self.context(), &self.shared.names);
        let config = |stream: &str, subject: &str, retention| stream::Config {
            name: stream.to_owned(),
            subjects: vec![subject.to_owned()],
            retention,
            num_replicas: self.replicas,
            duplicate_window: self.dedupe_period,
            ..stream::Config::default()
        };
        for config in [
            config(&names.stream, &names.subject, RetentionPolicy::WorkQueue),
            config(&names.dead_stream, &names.dead_subject, RetentionPolicy::Limits),
        ] {
            Box::pin(context.create_or_update_stream(config)).await.map_err(fault::of_api)?;
        }
        let found = context.get_consumer_from_stream::<pull::Config, _, _>(CONSUMER, &names.stream);
        let kept = found.await.ok().map(|found| found.cached_info().config.ack_wait);
        if let Some(kept) = kept.filter(|kept| *kept != self.lease) {
            let what = format!(
                "a lease is {kept:?} at the server, and {:?} here: workers that run with the other \
                 would lose their jobs; stop them and delete the consumer `{CONSUMER}` first",
                self.lease
            );
            return Err(QueueError::Invalid { what });
        }
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.lease,
            // The worker says when it is enough: the server would only stop to deliver.
            max_deliver: -1,
            // Those that wait to be tried again are among them.
            max_ack_pending: -1,
            max_waiting: WAITING_MOST,
            ..pull::Config::default()
        };
        let created = Box::pin(context.create_consumer_on_stream(consumer, &names.stream));
        created.await.map_err(fault::of_api)?;
        self.forget_consumer();
        Ok(())
    }
}

const CONSUMER: &str = "workers";
/// How many claims may wait at the server, of all workers.
const WAITING_MOST: i64 = 10_000;
