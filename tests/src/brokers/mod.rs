//! Real brokers as private instances: free ports, a folder of their own, killed on drop, so
//! that tests may stop, pause and cut them.

mod moto;
mod nats;
mod postgres;
mod proxy;
mod rabbitmq;
mod redis;
mod server;

pub use moto::PrivateMoto;
pub use nats::PrivateNats;
pub use postgres::PrivatePostgres;
pub use proxy::Proxy;
pub use rabbitmq::PrivateRabbit;
pub use redis::{PrivateRedis, RedisCluster};
pub use server::{Server, free_port, needs};
