//! The way to the broker: opened, lost and opened again, once for claims and once for messages.
//!
//! Two connections, since a broker that is short of memory stops reading from those that
//! publish: claims have to be settled all the same. The client's own recovery stays off, for it
//! would open the channel again under the same name, where an old delivery tag means another
//! job.
//!
//! Not here: what is asked for.
//!
//! # Invariants
//! 1. Each opening has a number of its own, which only grows: a delivery tag counts only together
//!    with the number of its opening.
//! 2. Whatever is opened has publisher confirms or claims, never both.
//! 3. A connection that says nothing for two heartbeats is given up by the client.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{sleep, timeout};

use super::fault::Fault;
use super::publish::Confirms;
use crate::error::QueueError;

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Claims,
    Messages,
}

/// A way to the broker, opened when it is first needed.
pub(super) struct Link {
    uri: AMQPUri,
    purpose: Purpose,
    state: Mutex<State>,
    /// One opens, the others wait for it.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    closed: bool,
    openings: u64,
    line: Option<Arc<Line>>,
}

/// One opening: a connection with one channel.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) channel: Channel,
    connection: Connection,
    pub(super) confirms: Confirms,
}

impl Line {
    /// Whether anything said on it can still reach the broker.
    pub(super) fn is_up(&self) -> bool {
        self.channel.status().connected() && self.connection.status().connected()
    }

    /// A channel beside the one that jobs hang on: what the broker refuses ends its channel.
    pub(super) async fn aside(&self) -> Result<Channel, Fault> {
        Ok(self.connection.create_channel().await?)
    }

    /// The call's answer; or, when the connection has ended, that it will have none: the client
    /// forgets what was asked of it at that moment.
    pub(super) async fn while_up<T>(
        &self,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        unless(|| !self.connection.status().connected(), call).await
    }

    /// Ends the channel, and returns when the broker has all that was said on it.
    async fn end(&self) -> Result<(), Fault> {
        if !self.is_up() {
            return Ok(());
        }
        self.channel.close(REPLY_SUCCESS, "closed".into()).await?;
        self.connection.close(REPLY_SUCCESS, "closed".into()).await?;
        Ok(())
    }
}

impl Link {
    pub(super) fn new(uri: AMQPUri, purpose: Purpose) -> Self {
        Self { uri, purpose, state: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// The line as it is, or a new one. Cancel safe.
    pub(super) async fn line(&self, bound: Duration) -> Result<Arc<Line>, Fault> {
        if let Some(line) = self.current()? {
            return Ok(line);
        }
        let opening = async {
            let _one = self.opening.lock().await;
            if let Some(line) = self.current()? {
                return Ok(line);
            }
            let (connection, channel) = Box::pin(self.open()).await?;
            let mut state = self.state();
            if state.closed {
                return Err(Fault::Closed);
            }
            state.openings += 1;
            let (number, confirms) = (state.openings, Confirms::default());
            let line = Arc::new(Line { number, channel, connection, confirms });
            state.line = Some(Arc::clone(&line));
            Ok(line)
        };
        timeout(bound, opening).await.unwrap_or(Err(Fault::TimedOut(bound)))
    }

    async fn open(&self) -> Result<(Connection, Channel), Fault> {
        let name = match self.purpose {
            Purpose::Claims => "lifecycle claims",
            Purpose::Messages => "lifecycle messages",
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        if self.purpose == Purpose::Messages {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
        }
        Ok((connection, channel))
    }

    /// The line, if it is up.
    fn current(&self) -> Result<Option<Arc<Line>>, Fault> {
        let mut state = self.state();
        if state.closed {
            return Err(Fault::Closed);
        }
        // What is down is let go of, and closes.
        let down = state.line.take_if(|line| !line.is_up());
        let line = state.line.clone();
        drop(state);
        drop(down);
        Ok(line)
    }

    /// The next call opens another, and what hangs on this one stays: the client refuses a new
    /// channel whose number was that of one that the broker has ended, with the same words again.
    pub(super) fn let_go(&self, line: &Line) {
        let gone = self.state().line.take_if(|other| other.number == line.number);
        drop(gone);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// From here on every call is told that it is closed.
    pub(super) fn refuse(&self) {
        self.state().closed = true;
    }

    /// Closes it: the answer comes when the broker has all that was said.
    pub(super) async fn close(&self, bound: Duration) -> Result<(), Fault> {
        let line = {
            let mut state = self.state();
            state.closed = true;
            state.line.take()
        };
        let Some(line) = line else { return Ok(()) };
        timeout(bound, line.end()).await.unwrap_or(Err(Fault::TimedOut(bound)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The call's answer, unless it is seen that there will be none.
async fn unless<T>(
    is_down: impl Fn() -> bool,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let down = async {
        // Bound: the connection's heartbeats.
        while !is_down() {
            sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        biased;
        answer = call => answer,
        () = down => Err(Fault::Ended),
    }
}

/// What the URL says, with what it leaves out.
pub(super) fn parse(url: &str) -> Result<AMQPUri, QueueError> {
    // The URL itself may have a password in it, and so may the parser's error.
    let invalid = || QueueError::Invalid {
        what: "not a URL like amqp://user:password@host:5672/vhost".to_owned(),
    };
    let mut uri: AMQPUri = url.parse().map_err(|_| invalid())?;
    if url.contains("/[") || url.contains("@[") {
        let what = "an AMQP URL takes a host by its name or IPv4 address".to_owned();
        return Err(QueueError::Invalid { what });
    }
    if uri.scheme == AMQPScheme::AMQPS && cfg!(not(feature = "amqp-tls")) {
        let what = "an amqps:// URL needs the feature `amqp-tls`".to_owned();
        return Err(QueueError::Invalid { what });
    }
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    Ok(uri)
}

/// Who answers nothing for twice that long is gone, to the broker as to the client.
const HEARTBEAT_S: u16 = 10;
const REPLY_SUCCESS: u16 = 200;
/// Whether a connection is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_url_without_a_virtual_host_means_the_default_one() {
        for url in ["amqp://localhost", "amqp://localhost/", "amqp://localhost/%2f"] {
            let uri = parse(url).unwrap();
            assert_eq!(
                (uri.vhost.as_str(), uri.query.heartbeat),
                ("/", Some(HEARTBEAT_S)),
                "{url}"
            );
        }
        let uri = parse("amqp://ada:x%20y@127.0.0.1:1/jobs?heartbeat=3").unwrap();
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("jobs", Some(3)));
        assert_eq!(uri.authority.host, "127.0.0.1");
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in
            ["", "mail", "redis://x", "amqp:secret", "amqp://u:secret@h:port", "amqp://[::1]"]
        {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_the_client_forgets_ends_with_its_connection() {
        let is_down = Cell::new(false);
        let forgotten = std::future::pending::<Result<(), Fault>>();
        let mut waiting = Box::pin(unless(|| is_down.get(), forgotten));
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, &mut waiting).await.is_err(), "a broker short of memory is slow");
        is_down.set(true);
        let ended = timeout(hour, waiting).await.expect("it ends");
        assert!(matches!(ended, Err(Fault::Ended)), "{ended:?}");
        let answered = unless(|| true, async { Ok(7) }).await;
        assert!(matches!(answered, Ok(7)), "an answer counts, however late: {answered:?}");
    }
}
