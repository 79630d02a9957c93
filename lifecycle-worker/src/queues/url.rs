//! Any queue by its URL, so that one program runs on whatever `QUEUE_URL` names.
//!
//! Not here: what the rest of a URL means, which its queue's `connect` says.
//!
//! # Invariants
//! 1. No error has a part of the URL in it but its scheme and the values of our own options: the
//!    rest may hold a password.
//! 2. What is not ours reaches the driver as it was written, byte for byte.

use std::borrow::Cow;
use std::time::Duration;

use crate::any::AnyQueue;
use crate::error::QueueError;
use crate::queue::Queue;
#[cfg(feature = "amqp")]
use crate::queues::AmqpQueue;
#[cfg(feature = "memory")]
use crate::queues::MemoryQueue;
#[cfg(feature = "nats")]
use crate::queues::NatsQueue;
#[cfg(feature = "postgres")]
use crate::queues::PostgresQueue;
#[cfg(feature = "redis")]
use crate::queues::RedisQueue;
#[cfg(feature = "sqlite")]
use crate::queues::SqliteQueue;
#[cfg(feature = "sqs")]
use crate::queues::SqsQueue;

impl AnyQueue {
    /// Connects to the queue that a URL names.
    ///
    /// | URL | queue | feature |
    /// |---|---|---|
    /// | `memory:` | in this process alone, new with each call | `memory` |
    /// | `sqlite:jobs.db`, `sqlite:///var/lib/app/jobs.db` | in a file, for the processes of one machine | `sqlite` |
    /// | `postgres://user:password@host/database`, or `postgresql://` | in PostgreSQL 13 or later | `postgres` |
    /// | `..?sslmode=verify-full` | the same by TLS | `postgres-tls` |
    /// | `redis://user:password@host:6379/0`, `redis+unix:///path` | on Redis 7.0 or later | `redis` |
    /// | `rediss://` | the same by TLS | `redis-tls` |
    /// | `amqp://user:password@host/vhost` | on RabbitMQ 3.10 or later; no `lease=` | `amqp` |
    /// | `amqps://` | the same by TLS | `amqp-tls` |
    /// | `nats://user:password@host` | on NATS 2.9 or later with JetStream | `nats` |
    /// | `tls://` | the same by TLS | `nats-tls` |
    /// | `sqs:NAME?region=REGION`, `sqs://KEY:SECRET@HOST:PORT/ACCOUNT/NAME` | on SQS; no `queue=` | `sqs` |
    ///
    /// Two options in the query are ours: `queue=NAME` (default: `default`), and `lease=30s` for
    /// how long a claim lasts unless it is extended (a duration such as `30s`, `1m30s` or `250ms`,
    /// or seconds such as `30` or `1.5`; default: the queue's own). Of an option that is given
    /// twice the last counts. All others are the driver's (`sslmode=verify-full`).
    ///
    /// Nothing is created there but a SQLite file: [`Queue::prepare`](crate::Queue::prepare) does
    /// that.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "memory")] #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lifecycle_worker::QueueError> {
    /// use lifecycle_worker::{AnyQueue, Queue};
    ///
    /// let url = std::env::var("QUEUE_URL").unwrap_or_else(|_| "memory:?queue=mail".to_owned());
    /// let queue = AnyQueue::connect(&url).await?;
    /// queue.prepare().await?;
    /// assert_eq!(queue.name(), "mail");
    /// # Ok(()) }
    /// # #[cfg(not(feature = "memory"))] fn main() {}
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was claimed, and connections are closed. A SQLite file may have been
    /// created.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a scheme that is not known, an option that is not understood,
    /// or what the queue itself does not take; [`QueueError::Unsupported`] for a queue whose
    /// feature is not compiled in. Else as the queue's own `connect`.
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        let target = Target::parse(url)?;
        // Boxed: the drivers' futures are large, and this is called once.
        Box::pin(open(target)).await
    }
}

/// The queue of a feature: an arm each.
async fn open(target: Target) -> Result<AnyQueue, QueueError> {
    match target.feature {
        #[cfg(feature = "amqp")]
        "amqp" => amqp(&target).await,
        #[cfg(feature = "amqp-tls")]
        "amqp-tls" => amqp(&target).await,
        #[cfg(feature = "memory")]
        "memory" => Ok(target.leased(MemoryQueue::new(&target.queue), MemoryQueue::lease)),
        #[cfg(feature = "nats")]
        "nats" => {
            Ok(target
                .leased(NatsQueue::connect(&target.url, &target.queue).await?, NatsQueue::lease))
        }
        #[cfg(feature = "nats-tls")]
        "nats-tls" => {
            Ok(target
                .leased(NatsQueue::connect(&target.url, &target.queue).await?, NatsQueue::lease))
        }
        #[cfg(feature = "postgres")]
        "postgres" => Ok(target.leased(
            PostgresQueue::connect(&target.url, &target.queue).await?,
            PostgresQueue::lease,
        )),
        #[cfg(feature = "redis")]
        "redis" => Ok(target
            .leased(RedisQueue::connect(&target.url, &target.queue).await?, RedisQueue::lease)),
        #[cfg(feature = "redis-tls")]
        "redis-tls" => Ok(target
            .leased(RedisQueue::connect(&target.url, &target.queue).await?, RedisQueue::lease)),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(target
            .leased(SqliteQueue::connect(&target.url, &target.queue).await?, SqliteQueue::lease)),
        #[cfg(feature = "sqs")]
        "sqs" => {
            if target.queue != QUEUE {
                let what = "queue= is not for sqs: the URL itself names the queue".to_owned();
                return Err(QueueError::Invalid { what });
            }
            Ok(target.leased(SqsQueue::connect(&target.url).await?, SqsQueue::lease))
        }
        feature => {
            let scheme = target.scheme;
            let what = format!("{scheme}: needs the feature \"{feature}\" of lifecycle-worker");
            Err(QueueError::Unsupported { what })
        }
    }
}

#[cfg(feature = "amqp")]
async fn amqp(target: &Target) -> Result<AnyQueue, QueueError> {
    if target.lease.is_some() {
        let what = "lease= is not for amqp: a claim lasts as long as its connection".to_owned();
        return Err(QueueError::Invalid { what });
    }
    Ok(AnyQueue::new(AmqpQueue::connect(&target.url, &target.queue).await?))
}

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    scheme: &'static str,
    feature: &'static str,
    /// For the driver: without our options.
    url: String,
    queue: String,
    lease: Option<Duration>,
}

impl Target {
    fn parse(url: &str) -> Result<Self, QueueError> {
        let found = SCHEMES.iter().find(|(scheme, _)| {
            url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                && url[scheme.len()..].starts_with(':')
        });
        let Some((scheme, feature)) = found else { return Err(unknown(url)) };
        // The drivers know their schemes in lower case alone.
        let rest = &url[scheme.len()..];
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut target = Self {
            scheme,
            feature,
            url: format!("{scheme}{place}"),
            queue: QUEUE.to_owned(),
            lease: None,
        };
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if !target.take(pair)? {
                target.url.push(separator);
                target.url.push_str(pair);
                separator = '&';
            }
        }
        Ok(target)
    }

    /// Whether the pair is an option of ours.
    fn take(&mut self, pair: &str) -> Result<bool, QueueError> {
        let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else {
            return Ok(false);
        };
        match &*name {
            "queue" if value.is_empty() => Err(refused("queue", &value, TAKES_QUEUE)),
            "queue" => {
                self.queue = value.into_owned();
                Ok(true)
            }
            "lease" => match parse_duration(&value) {
                None => Err(refused("lease", &value, TAKES_LEASE)),
                lease => {
                    self.lease = lease;
                    Ok(true)
                }
            },
            _ => Ok(false),
        }
    }

    #[cfg_attr(
        not(any(
            feature = "memory",
            feature = "nats",
            feature = "postgres",
            feature = "redis",
            feature = "sqlite",
            feature = "sqs"
        )),
        allow(dead_code, reason = "there is no queue")
    )]
    fn leased<Q: Queue>(&self, queue: Q, set: fn(Q, Duration) -> Q) -> AnyQueue {
        AnyQueue::new(match self.lease {
            Some(lease) => set(queue, lease),
            None => queue,
        })
    }
}

/// A duration as `lifecycle` reads those of its variables: what humantime takes and bare seconds,
/// a year at most; and more than nothing.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let bare = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let with_unit = if bare { Cow::from(format!("{text}s")) } else { Cow::from(text) };
    let duration = humantime::parse_duration(&with_unit).ok()?;
    (!duration.is_zero() && duration <= LEASE_LONGEST).then_some(duration)
}

fn refused(name: &str, value: &str, takes: &str) -> QueueError {
    QueueError::Invalid { what: format!("{name}={value:?} is not understood: it takes {takes}") }
}

/// Names what stands before the colon only if that can be a scheme.
fn unknown(url: &str) -> QueueError {
    let is_scheme = |text: &&str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme).filter(is_scheme);
    let mut known = String::new();
    for (scheme, _) in SCHEMES {
        known.push_str(if known.is_empty() { "" } else { ", " });
        known.push_str(scheme);
        known.push(':');
    }
    QueueError::Invalid {
        what: match scheme {
            Some(scheme) => format!("no queue has the scheme {scheme}: (known are {known})"),
            None => format!("the URL of a queue begins with one of {known}"),
        },
    }
}

/// Every scheme, and the feature that has its queue.
const SCHEMES: &[(&str, &str)] = &[
    ("amqp", "amqp"),
    ("amqps", "amqp-tls"),
    ("memory", "memory"),
    ("nats", "nats"),
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
    ("redis", "redis"),
    ("redis+unix", "redis"),
    ("rediss", "redis-tls"),
    ("sqlite", "sqlite"),
    ("sqs", "sqs"),
    ("tls", "nats-tls"),
];
const QUEUE: &str = "default";
const LEASE_LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const TAKES_QUEUE: &str = "a name";
const TAKES_LEASE: &str = "a duration such as 30s, 1m30s or 250ms, or seconds such as 30 or 1.5; not zero, a year at most";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn the_scheme_says_which_queue_and_the_query_what_of_it() {
        let s = |seconds| Some(Duration::from_secs(seconds));
        for (url, feature, rest, queue, lease) in [
            ("memory:", "memory", "memory:", "default", None),
            ("memory:?queue=mail", "memory", "memory:", "mail", None),
            ("sqlite:jobs.db?lease=5", "sqlite", "sqlite:jobs.db", "default", s(5)),
            ("SQLite:a.db?mode=rwc", "sqlite", "sqlite:a.db?mode=rwc", "default", None),
            ("redis://h/1?queue=a%20b+c", "redis", "redis://h/1", "a b c", None),
            ("redis+unix:///r.sock?lease=1m", "redis", "redis+unix:///r.sock", "default", s(60)),
            (
                "rediss://:p@h?protocol=resp3",
                "redis-tls",
                "rediss://:p@h?protocol=resp3",
                "default",
                None,
            ),
            (
                "postgres://u:p@h/d?sslmode=require&queue=x&a=%20&lease=1m30s&&queue=y",
                "postgres",
                "postgres://u:p@h/d?sslmode=require&a=%20",
                "y",
                s(90),
            ),
            (
                "amqps://u:p@h/v?heartbeat=5",
                "amqp-tls",
                "amqps://u:p@h/v?heartbeat=5",
                "default",
                None,
            ),
            ("tls://h:4222?queue=mail", "nats-tls", "tls://h:4222", "mail", None),
            (
                "sqs:mail?region=eu-west-1&lease=9",
                "sqs",
                "sqs:mail?region=eu-west-1",
                "default",
                s(9),
            ),
            ("postgresql://h/d?queued=1", "postgres", "postgresql://h/d?queued=1", "default", None),
        ] {
            let target = parse(url);
            assert_eq!((target.feature, target.url.as_str()), (feature, rest), "{url}");
            assert_eq!((target.queue.as_str(), target.lease), (queue, lease), "{url}");
        }
        assert_eq!(parse("memory:?lease=250ms").lease, Some(Duration::from_millis(250)));
        assert_eq!(parse("memory:?lease=1.5").lease, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_not_understood_is_told_with_what_is() {
        for (url, says) in [
            (
                "",
                "begins with one of amqp:, amqps:, memory:, nats:, postgres:, postgresql:, redis:",
            ),
            ("jobs.db", "begins with one of amqp:"),
            ("user:swordfish@host", "begins with one of amqp:"),
            ("kafka://u:swordfish@host", "no queue has the scheme kafka: (known are amqp:, "),
            ("sqlite", "begins with one of amqp:"),
            (
                "memory:?lease=soon",
                "lease=\"soon\" is not understood: it takes a duration such as 30s",
            ),
            ("memory:?lease=", "lease=\"\" is not understood"),
            ("memory:?lease=0", "not zero"),
            ("memory:?lease=-5s", "lease=\"-5s\""),
            ("memory:?lease=2years", "a year at most"),
            ("memory:?queue=", "queue=\"\" is not understood: it takes a name"),
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(matches!(error, QueueError::Invalid { .. }), "{url}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains("swordfish"), "{url}: {text}");
        }
    }

    #[tokio::test]
    async fn a_queue_that_is_not_compiled_in_names_its_feature() {
        let target = Target { feature: "carrier-pigeon", ..parse("redis://:swordfish@h") };
        let error = open(target).await.unwrap_err();
        let text = "not supported: redis: needs the feature \"carrier-pigeon\" of lifecycle-worker";
        assert_eq!(error.to_string(), text);
    }

    #[cfg(all(feature = "amqp", feature = "sqs"))]
    #[tokio::test]
    async fn an_option_that_a_queue_has_no_use_for_is_refused() {
        for (url, says) in [
            ("amqp://h?lease=5s", "as long as its connection"),
            ("sqs:mail?region=x&queue=other", "the URL itself names the queue"),
        ] {
            let error = AnyQueue::connect(url).await.unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
        }
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn a_lease_reaches_the_queue() {
        let queue = AnyQueue::connect("memory:?queue=mail&lease=7s").await.unwrap();
        assert_eq!(queue.name(), "mail");
        assert_eq!(queue.capabilities().lease_period(), Some(Duration::from_secs(7)));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn sqlite_without_a_file_is_refused_since_workers_would_not_share_it() {
        for url in ["sqlite::memory:", "sqlite:", "sqlite://x?mode=memory", "sqlite:?queue=a"] {
            let error = AnyQueue::connect(url).await.unwrap_err();
            assert!(error.to_string().contains("needs a file"), "{url}: {error}");
        }
    }
}

/// For any URL.
#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn cases() -> ProptestConfig {
        ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn any_text_is_a_target_or_refused(text in prop_oneof!["\\PC{0,40}", "[a-z:/?&=%+.0-9]{0,40}"]) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert!(SCHEMES.contains(&(target.scheme, target.feature)));
                prop_assert!(!target.queue.is_empty());
            }
        }

        #[test]
        fn what_is_not_ours_is_kept_as_it_was_and_no_error_tells_it(
            (scheme, feature) in select(SCHEMES.to_vec()),
            place in "//[a-z]{1,5}:[A-Z]{6,12}@[a-z.]{1,9}(:[0-9]{1,5})?/[a-z%0-9]{0,8}",
            theirs in proptest::collection::vec("x[a-z]{0,5}=[A-Za-z0-9%+]{0,8}", 0..4),
            queue in "[^\0]{1,12}",
            lease in prop_oneof!["[0-9]{1,9}(s|ms|m)?", "[a-z-]{0,6}"],
        ) {
            let ours = form_urlencoded::Serializer::new(String::new())
                .append_pair("queue", &queue)
                .append_pair("lease", &lease)
                .finish();
            let mut query = theirs.clone();
            query.insert(theirs.len() / 2, ours);
            match Target::parse(&format!("{scheme}:{place}?{}", query.join("&"))) {
                Ok(target) => {
                    let rest = if theirs.is_empty() { String::new() } else { format!("?{}", theirs.join("&")) };
                    prop_assert_eq!(target.url, format!("{scheme}:{place}{rest}"));
                    prop_assert_eq!((target.feature, target.queue), (feature, queue));
                    prop_assert_eq!(target.lease, parse_duration(&lease));
                }
                Err(error) => {
                    let password = place.split(['@', ':']).nth(1).unwrap_or_default();
                    prop_assert!(parse_duration(&lease).is_none());
                    prop_assert!(!error.to_string().contains(password), "{error}");
                }
            }
        }

        #[test]
        fn no_scheme_but_ours_is_taken(scheme in "[a-z][a-z0-9+.-]{0,8}", secret in "[A-Z]{6,12}") {
            let parsed = Target::parse(&format!("{scheme}://user:{secret}@host/"));
            match parsed {
                Ok(target) => prop_assert_eq!(target.scheme, scheme),
                Err(error) => {
                    let text = error.to_string();
                    prop_assert!(text.contains(&scheme) && !text.contains(&secret), "{text}");
                }
            }
        }
    }
}
