//! An adapter for what we do not ship: a queue on files in a folder, which processes share.
//!
//! Run with `cargo run -p examples --bin 12_folder_queue -- FOLDER`: it pushes a job and works until
//! Ctrl-C or SIGTERM; several processes may share the folder. `--conformance` runs the queue
//! through the suite that every queue of ours passes.
//!
//! A job is a file `id.attempt.returns.turn`, and its time of modification is when it can be
//! claimed: to claim is to move that on by the lease and then to rename the file, at which one
//! of those who try succeeds. Who holds a job knows the name; when that is gone, so is the claim.
//! Files block: `block_in_place` keeps the runtime's other tasks going meanwhile.
#![allow(clippy::print_stdout, reason = "the suite's report is what was asked for")]

use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitCode, Termination};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use lifecycle::Lifecycle;
use lifecycle_worker::{
    Attempt, BoxError, Capabilities, Claimed, Extend, Extended, Fail, Job, JobId, Lease, Next,
    Place, Push, Pushed, Queue, QueueError, Receipt, Release, ReleaseCapabilities, Settled, Worker,
    conformance,
};
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

struct FolderQueue {
    folder: PathBuf,
    lease: Duration,
    interrupt: Notify,
    closed: OnceLock<()>,
}

impl FolderQueue {
    fn open(&self) -> Result<(), QueueError> {
        if self.closed.get().is_some() { Err(QueueError::Closed) } else { Ok(()) }
    }

    fn push_one(&self, job: &Push) -> io::Result<Pushed> {
        let (id, mut file) = (new_id(), serde_json::to_vec(&(job.kind(), job.headers()))?);
        file.extend([b"\n", &job.payload()[..]].concat());
        let new = self.folder.join(format!("new.{id}"));
        fs::write(&new, file)?;
        due_in(&new, job.delayed_by())?;
        fs::rename(new, self.folder.join(named(&id, [0, 0, 0])))?;
        Ok(Pushed::New(JobId::new(id)))
    }

    fn claim_now(&self, max: usize) -> io::Result<Vec<Claimed>> {
        let mut names: Vec<_> =
            fs::read_dir(&self.folder)?.flatten().map(|file| file.file_name()).collect();
        names.sort(); // ids begin with the time of the push
        let jobs = names.iter().filter_map(|name| self.claim_one(name.to_str()?).ok());
        Ok(jobs.take(max).collect())
    }

    fn claim_one(&self, name: &str) -> io::Result<Claimed> {
        let (id, [attempt, returns, turn]) = parts(name)?;
        let (path, ends) = (self.folder.join(name), Instant::now() + self.lease);
        if path.metadata()?.modified()? > SystemTime::now() {
            return Err(ErrorKind::WouldBlock.into());
        }
        due_in(&path, self.lease)?;
        let name = named(id, [attempt + 1, returns, turn + 1]);
        fs::rename(path, self.folder.join(&name))?;
        let file = fs::read(self.folder.join(&name))?;
        let (head, payload) = file.split_at(file.iter().take_while(|byte| **byte != b'\n').count());
        let (kind, headers): (String, _) = serde_json::from_slice(head)?;
        let receipt = Receipt::new(JobId::new(id), turn.into()).with_text(name);
        let claimed = Claimed::new(receipt, kind, payload[1..].to_vec()).headers(headers);
        Ok(claimed.attempt(attempt + 1).returns(returns).lease_ends(ends))
    }

    fn settle(
        &self,
        receipt: &Receipt,
        act: impl FnOnce(&Path, &str, [u32; 3]) -> io::Result<()>,
    ) -> Settled {
        let name = receipt.text().unwrap_or_default();
        let act = || parts(name).and_then(|(id, counts)| act(&self.folder.join(name), id, counts));
        match self.open().map(|()| block_in_place(act)) {
            Ok(Ok(())) => Settled::Done,
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Settled::Lost,
            Ok(Err(error)) => Settled::Retry(QueueError::unavailable(error)),
            Err(closed) => Settled::Retry(closed),
        }
    }

    fn put_back(&self, path: &Path, name: String, delay: Duration) -> io::Result<()> {
        let back = self.folder.join(name);
        fs::rename(path, &back)?;
        due_in(&back, delay).or(Ok(())) // failing that, when its lease would have ended
    }
}

impl Queue for FolderQueue {
    fn name(&self) -> &str {
        "folder"
    }

    fn capabilities(&self) -> Capabilities {
        let release = ReleaseCapabilities::new(Place::Original, Attempt::NotCounted);
        let lease = Lease::Timed { period: self.lease, longest: None };
        let mut can = Capabilities::new(lease).with_release(release);
        can.delay = true;
        can
    }

    async fn prepare(&self) -> Result<(), QueueError> {
        fs::create_dir_all(&self.folder).map_err(QueueError::unavailable)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        self.open()?;
        fs::read_dir(&self.folder).map(drop).map_err(QueueError::unavailable)
    }

    async fn push(&self, jobs: &[Push]) -> Result<Vec<Pushed>, QueueError> {
        self.open()?;
        let push = || jobs.iter().map(|job| self.push_one(job)).collect::<io::Result<_>>();
        block_in_place(push).map_err(QueueError::unavailable)
    }

    async fn claim(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Claimed>, QueueError> {
        let until = Instant::now() + wait;
        let mut interrupted = pin!(self.interrupt.notified());
        interrupted.as_mut().enable();
        loop {
            self.open()?;
            let jobs = block_in_place(|| self.claim_now(max.get()));
            let jobs = jobs.map_err(QueueError::unavailable)?;
            if !jobs.is_empty() || Instant::now() >= until {
                return Ok(jobs);
            }
            tokio::select! {
                () = sleep(POLL) => {}
                () = &mut interrupted => return Ok(Vec::new()),
            }
        }
    }

    async fn interrupt(&self) {
        self.interrupt.notify_waiters();
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Settled> {
        let ack = |receipt| self.settle(receipt, |path, _, _| fs::remove_file(path));
        receipts.iter().map(ack).collect()
    }

    async fn release(&self, jobs: &[Release]) -> Vec<Settled> {
        let release = |job: &Release| {
            self.settle(&job.receipt, |path, id, [attempt, returns, turn]| {
                let name = named(id, [attempt - 1, returns + 1, turn + 1]);
                self.put_back(path, name, Duration::ZERO)
            })
        };
        jobs.iter().map(release).collect()
    }

    async fn fail(&self, jobs: &[Fail]) -> Vec<Settled> {
        let fail = |job: &Fail| {
            self.settle(&job.receipt, |path, id, [attempt, returns, turn]| match job.next {
                Next::Retry(delay) => {
                    self.put_back(path, named(id, [attempt, returns, turn + 1]), delay)
                }
                _ => fs::rename(path, self.folder.join(format!("dead.{id}"))),
            })
        };
        jobs.iter().map(fail).collect()
    }

    async fn extend(&self, jobs: &[Extend]) -> Vec<Extended> {
        let ends = Instant::now() + self.lease;
        let extend = |path: &Path, _: &str, _: [u32; 3]| due_in(path, self.lease);
        let extended = jobs.iter().map(|job| match self.settle(&job.receipt, extend) {
            Settled::Done => Extended::Until(ends),
            Settled::Retry(error) => Extended::Retry(error),
            _ => Extended::Lost,
        });
        extended.collect()
    }

    async fn close(&self) -> Result<(), QueueError> {
        self.closed.get_or_init(|| ());
        self.interrupt.notify_waiters();
        Ok(())
    }
}

fn named(id: &str, [attempt, returns, turn]: [u32; 3]) -> String {
    format!("{id}.{attempt}.{returns}.{turn}")
}

/// What is no job is as good as gone.
fn parts(name: &str) -> io::Result<(&str, [u32; 3])> {
    let mut parts = name.split('.');
    let id = parts.next().unwrap_or_default();
    let counts: Vec<_> = parts.filter_map(|part| part.parse().ok()).collect();
    Ok((id, counts.try_into().map_err(|_| ErrorKind::NotFound)?))
}

/// In the order of the pushes, and unique.
fn new_id() -> String {
    static LAST: Mutex<u128> = Mutex::new(0);
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *last = now.max(*last + 1);
    format!("{last:020}-{}", std::process::id())
}

fn due_in(path: &Path, delay: Duration) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() + delay)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).unwrap_or_else(|| "jobs".to_owned());
    if folder == "--conformance" {
        let folder = env::temp_dir().join(format!("own-queue-{}", std::process::id()));
        let report = conformance::suite(async |setting| {
            let queue = || queue(folder.join(&setting.name), setting.lease);
            queue().prepare().await?;
            Ok((queue(), queue()))
        });
        let report = report.await;
        fs::remove_dir_all(&folder)?;
        println!("{report}");
        return Ok(if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut life = Lifecycle::from_env()?;
    examples::init_logs();
    let queue = queue(folder.into(), Duration::from_secs(30));
    queue.prepare().await?;
    queue.push(&[Push::new("mail", "ada@example.org")]).await?;
    life.spawn("mail", Worker::new(queue, mail));
    examples::say_ready();
    Ok(life.run().await?.report())
}

fn queue(folder: PathBuf, lease: Duration) -> FolderQueue {
    FolderQueue { folder, lease, interrupt: Notify::new(), closed: OnceLock::new() }
}

async fn mail(job: Job) -> Result<(), BoxError> {
    sleep(Duration::from_millis(500)).await; // the mail server
    tracing::info!(to = std::str::from_utf8(job.payload())?, attempt = job.attempt(), "sent");
    Ok(())
}

const POLL: Duration = Duration::from_millis(20);
