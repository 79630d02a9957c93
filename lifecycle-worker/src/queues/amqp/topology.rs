//! What a queue needs at the broker: its queue, its dead letters, and the delays that all share.
//!
//! A delay is the sum of powers of two. For each power there is one queue whose messages live so
//! long and then fall through to the next smaller one; the routing key has a digit for each, and
//! the job's queue behind them. So any delay is kept to 10 ms by queues whose number is fixed,
//! none of which has a short delay behind a long one, and nothing is ever declared but by
//! [`prepare`].
//!
//! ```text
//! lifecycle.delay.28 -1-> queue of 31 days -.
//!         |0                                v
//! lifecycle.delay.27 -1-> queue of 15 days -.
//!         :                                 v
//! lifecycle.delay.00 -1-> queue of 10 ms ---> lifecycle.due -> the job's queue
//! ```
//!
//! Not here: who publishes.
//!
//! # Invariants
//! 1. A message passes each level once at most, from the largest to the smallest.
//! 2. The queues of the levels are quorum queues whose dead-lettering is confirmed: a message is
//!    in one of two queues at any time, or, when a node ends in between, in both.

use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::fault::Fault;

/// Where a message is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Dead,
    /// Ready after so long.
    Later(Duration),
    Ready,
}

/// Which kind of queue holds the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Classic,
    ClassicWithPriorities,
    Quorum,
}

/// The exchange and the routing key that lead there.
pub(super) fn route(name: &str, to: To) -> (String, String) {
    match to {
        To::Dead => (String::new(), dead(name)),
        To::Ready => (String::new(), name.to_owned()),
        To::Later(delay) => {
            let steps = steps(delay);
            if steps == 0 {
                return route(name, To::Ready);
            }
            (exchange(steps.ilog2()), key(steps, name))
        }
    }
}

/// The queue of the dead letters.
pub(super) fn dead(name: &str) -> String {
    format!("{name}.dead")
}

/// Whether a delay is one that the levels can keep.
pub(super) fn can_wait(delay: Duration) -> bool {
    delay <= STEP * STEPS_MOST
}

/// Whether queues of that name can be told apart by routing keys.
pub(super) fn is_name(name: &str) -> bool {
    let fits = (1..=NAME_MOST).contains(&name.len());
    fits && name.chars().all(|c| c.is_alphanumeric() || "-_.:/".contains(c))
}

/// Declares all of it; what is there already has to be the same.
pub(super) async fn prepare(channel: &Channel, name: &str, kind: Kind) -> Result<(), Fault> {
    declare(channel, name, of_kind(name, kind)).await?;
    let dead_kind = if kind == Kind::Quorum { "quorum" } else { "classic" };
    declare(channel, &dead(name), vec![("x-queue-type", word(dead_kind))]).await?;
    declare_exchange(channel, DUE).await?;
    for level in 0..LEVELS {
        let next = level.checked_sub(1).map_or_else(|| DUE.to_owned(), exchange);
        let this = exchange(level);
        declare_exchange(channel, &this).await?;
        let arguments = vec![
            ("x-queue-type", word("quorum")),
            ("x-message-ttl", AMQPValue::LongLongInt(period_ms(level))),
            ("x-dead-letter-exchange", word(&next)),
            ("x-dead-letter-strategy", word("at-least-once")),
            ("x-overflow", word("reject-publish")),
        ];
        declare(channel, &this, arguments).await?;
        bind(channel, &this, &this, &digit(level, '1')).await?;
        let (options, none) = (ExchangeBindOptions::default(), FieldTable::default());
        let (to, from, key) = (short(&next)?, short(&this)?, short(&digit(level, '0'))?);
        channel.exchange_bind(to, from, key, options, none).await?;
    }
    bind(channel, name, DUE, &format!("{}{name}", "*.".repeat(LEVELS as usize))).await
}

/// Looks whether it is there, and creates nothing.
pub(super) async fn look(channel: &Channel, name: &str) -> Result<(), Fault> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    for queue in [name, &dead(name)] {
        channel.queue_declare(short(queue)?, passive, FieldTable::default()).await?;
    }
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    for exchange in [exchange(LEVELS - 1), DUE.to_owned()] {
        let (exchange, kind) = (short(&exchange)?, ExchangeKind::Topic);
        channel.exchange_declare(exchange, kind, passive, FieldTable::default()).await?;
    }
    Ok(())
}

fn of_kind(name: &str, kind: Kind) -> Vec<(&'static str, AMQPValue)> {
    match kind {
        Kind::Classic => vec![("x-queue-type", word("classic"))],
        Kind::ClassicWithPriorities => {
            let levels = AMQPValue::LongLongInt(u8::MAX.into());
            vec![("x-queue-type", word("classic")), ("x-max-priority", levels)]
        }
        // What the broker itself gives up is a dead letter too, and not gone.
        Kind::Quorum => vec![
            ("x-queue-type", word("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERIES_MOST)),
            ("x-dead-letter-exchange", word("")),
            ("x-dead-letter-routing-key", word(&dead(name))),
            ("x-dead-letter-strategy", word("at-least-once")),
            ("x-overflow", word("reject-publish")),
        ],
    }
}

async fn declare(
    channel: &Channel,
    name: &str,
    arguments: Vec<(&'static str, AMQPValue)>,
) -> Result<(), Fault> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), table).await?;
    Ok(())
}

async fn declare_exchange(channel: &Channel, name: &str) -> Result<(), Fault> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (name, kind) = (short(name)?, ExchangeKind::Topic);
    channel.exchange_declare(name, kind, options, FieldTable::default()).await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Fault> {
    let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
    let options = QueueBindOptions::default();
    channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await?;
    Ok(())
}

/// A text that AMQP takes as a name or key.
pub(super) fn short(text: &str) -> Result<ShortString, Fault> {
    ShortString::try_new(text).map_err(|_| Fault::Invalid(format!("{text:?} is too long for AMQP")))
}

fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.as_bytes().into())
}

/// The exchange of a level, and the queue of the same name.
fn exchange(level: u32) -> String {
    format!("lifecycle.delay.{level:02}")
}

/// Every routing key whose digit of that level is this one.
fn digit(level: u32, digit: char) -> String {
    format!("{}{digit}.#", "*.".repeat((LEVELS - 1 - level) as usize))
}

fn key(steps: u32, name: &str) -> String {
    let digits = (0..LEVELS).rev().map(|level| if steps >> level & 1 == 1 { "1." } else { "0." });
    digits.chain([name]).collect()
}

fn period_ms(level: u32) -> i64 {
    i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX) << level
}

/// Rounded up: what is asked for is waited for, but for what is longer than all levels together.
fn steps(delay: Duration) -> u32 {
    let steps = delay.as_nanos().div_ceil(STEP.as_nanos());
    u32::try_from(steps).unwrap_or(STEPS_MOST).min(STEPS_MOST)
}

const DUE: &str = "lifecycle.due";
const STEP: Duration = Duration::from_millis(10);
/// The broker takes no period of a message beyond 49 days: the largest level has 31.
const LEVELS: u32 = 29;
const STEPS_MOST: u32 = (1 << LEVELS) - 1;
/// With a digit and a dot for each level it is still a routing key.
const NAME_MOST: usize = 150;
/// How often a job is delivered again after its workers' connections have ended, before the
/// broker itself makes it a dead letter. Returns and retries are not among them.
const DELIVERIES_MOST: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_rounded_up_to_whole_steps() {
        let ms = Duration::from_millis;
        for (delay, expected) in [(0, 0), (1, 1), (10, 1), (11, 2), (500, 50), (3_600_000, 360_000)]
        {
            assert_eq!(steps(ms(delay)), expected, "{delay} ms");
        }
        assert_eq!(steps(Duration::MAX), STEPS_MOST);
        assert!(can_wait(ms(u64::from(STEPS_MOST) * 10)));
        assert!(!can_wait(ms(u64::from(STEPS_MOST) * 10 + 1)));
    }

    #[test]
    fn the_digits_of_a_key_add_up_to_the_delay() {
        for asked in [1, 2, 50, 360_000, STEPS_MOST] {
            let key = key(asked, "a.b");
            let digits: Vec<_> = key.split('.').take(LEVELS as usize).collect();
            let sum: i64 = digits
                .iter()
                .rev()
                .zip(0..)
                .filter(|(digit, _)| **digit == "1")
                .map(|(_, level)| period_ms(level))
                .sum();
            assert_eq!(sum, i64::from(asked) * 10);
            assert!(key.ends_with(".a.b"));
        }
    }

    #[test]
    fn a_route_begins_at_its_largest_level() {
        let (exchange, key) = route("mail", To::Later(Duration::from_millis(50)));
        assert_eq!(exchange, "lifecycle.delay.02");
        assert!(key.ends_with("0.1.0.1.mail"), "{key}");
        assert_eq!(route("mail", To::Later(Duration::ZERO)), route("mail", To::Ready));
        assert_eq!(route("mail", To::Dead), (String::new(), "mail.dead".to_owned()));
    }

    #[test]
    fn a_level_binds_by_its_own_digit() {
        assert_eq!(digit(LEVELS - 1, '1'), "1.#");
        assert_eq!(digit(LEVELS - 3, '0'), "*.*.0.#");
        let name = "x".repeat(NAME_MOST);
        assert!(is_name(&name) && key(1, &name).len() <= 255);
        assert!(period_ms(LEVELS - 1) < i64::from(u32::MAX));
        for name in ["", "a*", "#", "a b", "a\n"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
