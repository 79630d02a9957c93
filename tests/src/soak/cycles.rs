//! The cycles: a server starts, the one before it stops, what is held is noted.

use std::fs::File;
use std::future::pending;
use std::time::Duration;

use lifecycle::Report;
use lifecycle_drill::Ledger;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::client::{Leave, Target, client};
use super::held::Burden;
use super::server::{Common, Server};
use super::{Leak, Observed, Options, Sample};

/// Runs all cycles under load and says what was seen.
///
/// # Panics
/// When a server does not start or does not end.
pub async fn soak(options: &Options) -> Observed {
    let (common, start) = (Common::new(), Sample::now());
    // Before the first look, since it stays: room for all that is noted.
    let samples = Vec::with_capacity(options.cycles as usize);
    let mut observed = Observed { time: options.time, samples, ..Observed::default() };
    // What is made once a process (the pipe that signals come through, room in the queue) is
    // there after this: the load and each burden once.
    let mut warm_up = Observed::default();
    let burdens = [None].into_iter().chain(Burden::ALL.map(Some)).chain([None; 2]);
    let pace = |_| sleep(WARM_UP_CYCLE);
    play(&common, &mut warm_up, burdens, pace, None).await;
    observed.before = settled(&Sample { tasks: 0, descriptors: u64::MAX, ..start }).await;
    let before = common.counts.jobs();

    let began = Instant::now();
    let due = |cycle| {
        let share = f64::from(cycle) / f64::from(options.cycles);
        sleep_until(began + options.time.mul_f64(share))
    };
    let burdens = (1..=options.cycles).map(Burden::of);
    let _leaked = play(&common, &mut observed, burdens, due, options.leak).await;
    let after = common.counts.jobs();
    (observed.pushed, observed.done) = (after.0 - before.0, after.1 - before.1);
    observed.after = settled(&observed.before).await;
    observed.add_warm_up(warm_up);
    observed
}

/// Runs cycles with these burdens, each when it is due. What it returns was leaked.
async fn play<F: Future<Output = ()>>(
    common: &Common,
    observed: &mut Observed,
    burdens: impl Iterator<Item = Option<Burden>>,
    due: impl Fn(u32) -> F,
    leak: Option<Leak>,
) -> Leaked {
    let mut burdens = burdens.peekable();
    let mut server = Server::start(common, burdens.peek().copied().flatten()).await;
    let target = Target::new(server.address);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(target.clone()));
    }
    let (mut leaked, mut cycle) = (Leaked::default(), 0);
    while let Some(burden) = burdens.next() {
        cycle += 1;
        due(cycle).await;
        // Before there is a next one, whose worker would take the job of this one.
        let held = match burden {
            Some(burden) => Some(burden.begin(&server, common).await),
            None => None,
        };
        let next = Server::start(common, burdens.peek().copied().flatten()).await;
        target.is_now(Some(next.address), Burden::leave(burden)).await;
        let last = std::mem::replace(&mut server, next);
        if burden.is_some_and(Burden::outlasts) {
            last.is_left().await;
        }
        let report = last.stop().await;
        match held {
            None => observed.note(&report),
            Some(held) => {
                observed.burdens += 1;
                observed.cut += u64::from(report.exit_code() != 0);
                observed.otherwise.extend(held.end(&report).await.err());
            }
        }
        leaked.one_more(leak);
        observed.samples.push(Sample::now());
    }
    target.is_now(None, Leave::AtOnce).await;
    while let Some(ledger) = clients.join_next().await {
        observed.requests.merge(&ledger.expect("a client does not panic"));
    }
    let report = server.stop_when_empty(common).await;
    observed.note(&report);
    leaked
}

impl Observed {
    fn note(&mut self, report: &Report) {
        if report.exit_code() != 0 {
            self.unclean.push(report.to_string());
        }
    }

    /// What went wrong in it; its load counts for nothing.
    fn add_warm_up(&mut self, warm_up: Self) {
        self.unclean.extend(warm_up.unclean);
        self.otherwise.extend(warm_up.otherwise);
        let mut unanswered = Ledger::new();
        for (fate, count) in warm_up.requests.iter().filter(|(fate, _)| !fate.is_answered()) {
            (0..count).for_each(|_| unanswered.add(fate));
        }
        self.requests.merge(&unanswered);
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
            Some(Leak::Memory) => self.memory.push(vec![1; LEAKED_BYTES]),
            Some(Leak::Tasks) => drop(tokio::spawn(pending::<()>())),
        }
    }
}

const CLIENTS: usize = 4;
const LEAKED_BYTES: usize = 4 * 1024;
const WARM_UP_CYCLE: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A thread of tokio's for blocking calls goes after 10 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
