//! Real brokers as private instances: free ports, a folder of their own, killed on drop, so
//! that tests may stop, pause and cut them.

mod postgres;
mod server;

pub use postgres::PrivatePostgres;
pub use server::{Server, free_port, needs};
