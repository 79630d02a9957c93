//! What a worker process writes down, and how it is read: a line for each event.
//!
//! # Invariants
//! 1. A line is one write to a file that is appended to: what is written outlives SIGKILL.
//! 2. Times are those of a clock that all processes share.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the clock that all processes of this machine share.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0);
    whole * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What happened to a job in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A handler has begun with that attempt, after so many returns.
    Start {
        /// From 1.
        attempt: u32,
        /// Before this claim.
        returns: u32,
    },
    /// The handler has ended by itself.
    End,
    /// The handler was dropped.
    Stop,
    /// The queue has answered for it: what became of it, in the settlement's word.
    Settled(String),
}

/// An event of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Of which job.
    pub id: String,
    /// What.
    pub what: What,
    /// When, in nanoseconds.
    pub at: u64,
}

impl Event {
    /// That event.
    #[must_use]
    pub fn new(id: &str, what: What, at: u64) -> Self {
        Self { id: id.to_owned(), what, at }
    }

    fn line(&self) -> String {
        let Self { id, what, at } = self;
        match what {
            What::Start { attempt, returns } => format!("start {id} {attempt} {returns} {at}\n"),
            What::End => format!("end {id} {at}\n"),
            What::Stop => format!("stop {id} {at}\n"),
            What::Settled(outcome) => format!("settled {id} {outcome} {at}\n"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let (id, what, at) = match *words.as_slice() {
            ["start", id, attempt, returns, at] => {
                let (attempt, returns) = (attempt.parse().ok()?, returns.parse().ok()?);
                (id, What::Start { attempt, returns }, at)
            }
            ["end", id, at] => (id, What::End, at),
            ["stop", id, at] => (id, What::Stop, at),
            ["settled", id, outcome, at] => (id, What::Settled(outcome.to_owned()), at),
            _ => return None,
        };
        Some(Self::new(id, what, at.parse().ok()?))
    }
}

/// The file that one process writes to.
#[derive(Debug)]
pub(super) struct Ledger(File);

impl Ledger {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Writes it down, now.
    pub(super) fn note(&self, id: &str, what: What) {
        let line = Event::new(id, what, now_ns()).line();
        (&self.0).write_all(line.as_bytes()).expect("the ledger can be written");
    }
}

/// All events of a file; none, while there is no file.
pub(super) fn read(path: &Path) -> Vec<Event> {
    parse(&fs::read_to_string(path).unwrap_or_default())
}

/// What is new in all the ledgers of a folder.
#[derive(Debug)]
pub(super) struct Tail {
    folder: PathBuf,
    /// How far each was read.
    read: HashMap<PathBuf, u64>,
}

impl Tail {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), read: HashMap::new() }
    }

    /// The events that were written since the last call.
    pub(super) fn news(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let files = fs::read_dir(&self.folder).expect("a folder").flatten().map(|it| it.path());
        for path in files.filter(|path| path.extension().is_some_and(|it| it == "ledger")) {
            let mut file = File::open(&path).expect("a ledger");
            let (read, mut text) = (self.read.entry(path).or_default(), String::new());
            file.seek(SeekFrom::Start(*read)).expect("it was as long as that");
            file.read_to_string(&mut text).expect("text");
            // What is not a whole line yet is read next time.
            text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
            *read += text.len() as u64;
            events.extend(parse(&text));
        }
        events
    }
}

fn parse(text: &str) -> Vec<Event> {
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.map(|line| Event::read(line).unwrap_or_else(|| panic!("no event: {line:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.ledger");
        let mut tail = Tail::new(folder.path());
        assert_eq!((read(&path), tail.news()), (vec![], vec![]));
        let ledger = Ledger::create(&path).unwrap();
        let all = [
            What::Start { attempt: 2, returns: 1 },
            What::End,
            What::Stop,
            What::Settled("done".into()),
        ];
        let before = now_ns();
        all.iter().for_each(|what| ledger.note("7", what.clone()));
        (&ledger.0).write_all(b"start 8 1").unwrap();
        let events = read(&path);
        assert_eq!((&tail.news(), tail.news()), (&events, vec![]), "each once");
        (&ledger.0).write_all(b" 0 9\n").unwrap();
        assert_eq!(tail.news()[0].id, "8");
        assert_eq!(events.iter().map(|event| event.what.clone()).collect::<Vec<_>>(), all);
        assert!(events.iter().all(|event| event.id == "7" && event.at >= before));
    }
}
