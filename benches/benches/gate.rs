//! What it costs to be counted: one entry and one leave, beside tokio-util and drain.
//!
//! The gate is that of a lifecycle with a control thread, as in production: its clock is
//! the coarse one (that of `build_local` is tokio's, several times dearer).

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Mutex;

use benches::{Promise, Reach, Rounds, Row, Setting, Subject, production, work};
use lifecycle::{Handle, Kind};
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    let life = production();
    benches::run("gate: enter and leave", &subjects(&life.handle()), rows)
}

fn subjects(handle: &Handle) -> Vec<Subject> {
    let (counted, named) = (handle.clone(), handle.clone());
    vec![
        Subject::new(UNNAMED, move || {
            let gate = counted.gate(Kind::Work);
            work(move || drop(black_box(gate.enter_unnamed().expect("open"))))
        }),
        Subject::new(NAMED, move || {
            let gate = named.gate(Kind::Work);
            work(move || {
                let (method, path) = black_box(("GET", "/work"));
                drop(black_box(gate.enter(method, path).expect("open")));
            })
        }),
        Subject::new(TRACKER, || {
            let tracker = TaskTracker::new();
            work(move || drop(black_box(tracker.token())))
        }),
        Subject::new(WATCH, || {
            let (signal, watch) = drain::channel();
            // Kept, since dropping it begins the drain; in a mutex, since it is not `Sync`.
            let signal = Mutex::new(signal);
            work(move || {
                let _open = &signal;
                drop(black_box(watch.clone()));
            })
        }),
    ]
}

fn rows(rounds: &Rounds) -> Vec<Row> {
    let mut rows = Vec::new();
    for ours in [UNNAMED, NAMED] {
        for theirs in [TRACKER, WATCH] {
            rows.push(Row::new(rounds, Setting::One, [ours, theirs], FASTER));
            rows.push(Row::new(rounds, Setting::Two, [ours, theirs], TENFOLD));
        }
        rows.push(Row::flat(rounds, ours, FLAT));
    }
    // Nobody else keeps a name: of those rows nothing was promised.
    let promised = |row: Row| if row.is_of(UNNAMED) { row.shows(Promise::Gate) } else { row };
    rows.into_iter().map(promised).collect()
}

const UNNAMED: &str = "enter_unnamed";
const NAMED: &str = "enter \"GET /work\"";
const TRACKER: &str = "TaskTracker::token";
const WATCH: &str = "drain::Watch clone";
const FASTER: Reach = Reach { at_most: 1.0, words: "faster: 1.00" };
const TENFOLD: Reach = Reach { at_most: 0.1, words: "10x faster: 0.10" };
/// "Flat in threads", with a tenth for the machine.
const FLAT: Reach = Reach { at_most: 1.1, words: "flat: 1.10" };
