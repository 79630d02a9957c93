//! A private broker by its name: started, paused, stopped, started again.

use tempfile::TempDir;

use crate::brokers::{PrivateNats, PrivatePostgres, PrivateRabbit, PrivateRedis};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerKind {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
    /// A server.
    Redis,
    /// A server: RabbitMQ.
    Amqp,
    /// A server, with JetStream.
    Nats,
}

impl BrokerKind {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Sqlite, Self::Postgres, Self::Redis, Self::Amqp, Self::Nats]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Amqp => "amqp",
            Self::Nats => "nats",
        }
    }
}

/// A private broker, gone on drop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Broker {
    /// A file in a folder of its own.
    Sqlite(TempDir),
    /// A server.
    Postgres(PrivatePostgres),
    /// A server.
    Redis(PrivateRedis),
    /// A server.
    Amqp(PrivateRabbit),
    /// A server.
    Nats(PrivateNats),
}

impl Broker {
    /// Starts one.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    ///
    /// # Cancel safety
    /// Cancel safe: what was started is killed.
    pub async fn start(kind: BrokerKind) -> Self {
        match kind {
            BrokerKind::Sqlite => Self::Sqlite(TempDir::new().expect("a folder")),
            BrokerKind::Postgres => Self::Postgres(PrivatePostgres::start().await),
            BrokerKind::Redis => Self::Redis(PrivateRedis::start().await),
            BrokerKind::Amqp => Self::Amqp(PrivateRabbit::start().await),
            BrokerKind::Nats => Self::Nats(PrivateNats::start().await),
        }
    }

    /// The URL of a queue there.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite://{}/jobs.db", folder.path().display()),
            Self::Postgres(server) => server.url(),
            Self::Redis(server) => server.url(),
            Self::Amqp(server) => server.url(),
            Self::Nats(server) => server.url(),
        }
    }

    /// Stops its clocks: sockets stay, and nobody answers. A file has none.
    pub fn pause(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => server.pause(),
            Self::Redis(server) => server.pause(),
            Self::Amqp(server) => server.pause(),
            Self::Nats(server) => server.pause(),
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => server.resume(),
            Self::Redis(server) => server.resume(),
            Self::Amqp(server) => server.resume(),
            Self::Nats(server) => server.resume(),
        }
    }

    /// Stops it. A file cannot be.
    ///
    /// # Cancel safety
    /// Cancel safe: it has been told, and is killed.
    pub async fn stop(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => server.stop().await,
            Self::Redis(server) => server.stop().await,
            Self::Amqp(server) => server.stop().await,
            Self::Nats(server) => server.stop().await,
        }
    }

    /// Starts it again with its data.
    ///
    /// # Cancel safety
    /// Cancel safe: it is killed.
    pub async fn start_again(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(server) => server.start_again().await,
            Self::Redis(server) => server.start_again().await,
            Self::Amqp(server) => server.start_again().await,
            Self::Nats(server) => server.start_again().await,
        }
    }
}
