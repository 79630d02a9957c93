//! Worker processes that are told to stop, or killed, again and again, and a judge of what they
//! did with their jobs. `src/bin/torture.rs` is the command.
//!
//! Each worker process appends what happens to a ledger of its own; the judge reads them all
//! when everybody is gone. It believes the queue only where it agrees with the ledgers.

mod broker;
mod execution;
mod fleet;
mod gauge;
mod judge;
mod ledger;
mod options;
mod orders;
mod probe;
mod rounds;
mod said;
mod select;
mod verdict;
mod work;
mod worker;

pub use broker::{Broker, BrokerKind};
pub use fleet::{Exit, WorkerProcess};
pub use ledger::{Event, What, now_ns};
pub use options::{KillBy, Options};
pub use orders::{ClaimBy, Orders};
pub use rounds::torture;
pub use said::Said;
pub use verdict::Verdict;
pub use work::sum;
pub use worker::work;
