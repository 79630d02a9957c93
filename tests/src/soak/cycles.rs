//! The cycles: a server starts, the one before it stops, what is held is noted.

use std::fs::File;
use std::future::pending;
use std::time::Duration;

use lifecycle::Report;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::client::client;
use super::server::{Common, Server};
use super::{Leak, Observed, Options, Sample};

/// Runs all cycles under load and says what was seen.
///
/// # Panics
/// When a server does not start or does not end.
pub async fn soak(options: Options) -> Observed {
    let (common, mut observed) = (Common::new(), Observed::default());
    let start = Sample::now();
    // What is made once a process (the pipe that signals come through) is there after this.
    let first = Server::start(&common).await.stop().await;
    observed.note(&first);
    observed.before = settled(&Sample { descriptors: u64::MAX, ..start }).await;

    let mut server = Server::start(&common).await;
    let (address, addresses) = watch::channel(Some(server.address));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(addresses.clone()));
    }
    drop(addresses);
    let (began, mut leaked) = (Instant::now(), Leaked::default());
    for cycle in 1..=options.cycles {
        sleep_until(began + options.time.mul_f64(f64::from(cycle) / f64::from(options.cycles)))
            .await;
        let next = Server::start(&common).await;
        address.send_replace(Some(next.address));
        let report = std::mem::replace(&mut server, next).stop().await;
        observed.note(&report);
        leaked.one_more(options.leak);
        observed.samples.push(Sample::now());
    }
    address.send_replace(None);
    while let Some(ledger) = clients.join_next().await {
        observed.requests.merge(&ledger.expect("a client does not panic"));
    }
    let last = server.stop_when_empty(&common).await;
    observed.note(&last);
    (observed.pushed, observed.done) = common.counts.jobs();
    observed.after = settled(&observed.before).await;
    observed
}

impl Observed {
    fn note(&mut self, report: &Report) {
        if report.exit_code() != 0 {
            self.unclean.push(report.to_string());
        }
    }
}

/// What is held once it is as it was `before`, or after the time that a thread may take to go.
async fn settled(before: &Sample) -> Sample {
    let back = async {
        // Bound: the timeout around it. Nobody tells when a thread is gone.
        while !Sample::now().is_back_at(before) {
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(SETTLED_WITHIN, back).await.ok();
    Sample::now()
}

/// What was leaked on purpose.
#[derive(Default)]
struct Leaked {
    files: Vec<File>,
    memory: Vec<Vec<u8>>,
}

impl Leaked {
    fn one_more(&mut self, leak: Option<Leak>) {
        match leak {
            None => {}
            Some(Leak::Descriptors) => {
                self.files.push(File::open("/dev/null").expect("it can be opened"));
            }
            // Not zeros, which the system would not keep in RAM.
            Some(Leak::Memory) => self.memory.push(vec![1; LEAKED_BYTES]),
            Some(Leak::Tasks) => drop(tokio::spawn(pending::<()>())),
        }
    }
}

const CLIENTS: usize = 4;
const LEAKED_BYTES: usize = 512 * 1024;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A thread of tokio's for blocking calls goes after 10 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(12);
