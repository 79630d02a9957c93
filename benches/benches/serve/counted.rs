//! Instructions and allocations of one whole request, the client's part included: it is the
//! same on both sides, and small.

use std::process::Command;
use std::sync::Arc;

use benches::{
    Ask, Bound, Comparison, CountError, Protocol, Stack, Subject, instructions_between,
    requests_in_memory,
};

/// Both sides on each protocol, ours first.
pub(crate) fn subjects() -> Vec<Subject> {
    let subject = |(name, stack, protocol)| {
        Subject::new(name, move || {
            Arc::new(move |times| requests_in_memory(stack, protocol, Ask::Get, times, || ()))
        })
    };
    SUBJECTS.into_iter().map(subject).collect()
}

pub(crate) fn compare(
    subjects: &[Subject],
    between: [u64; 2],
) -> Result<Vec<Comparison>, CountError> {
    let instructions = instructions_between(subjects, between)?;
    let allocations: Vec<_> =
        SUBJECTS.iter().map(|(_, stack, on)| allocations(*stack, *on)).collect();
    let rows = |unit, figures: &[f64]| {
        let pairs = SUBJECTS.chunks(2).zip(figures.chunks(2));
        let row = |(subjects, figures): (&[(_, _, Protocol)], &[f64])| {
            let name = format!("{} GET", subjects[0].2.name());
            let [ours, theirs] = [0, 1].map(|side| Ok(vec![figures[side]]));
            Comparison::of(name, unit, [&ours, &theirs], |figure| *figure, Bound::None)
        };
        pairs.map(row).collect::<Vec<_>>()
    };
    Ok([rows("instructions", &instructions), rows("allocations", &allocations)].concat())
}

fn allocations(stack: Stack, protocol: Protocol) -> f64 {
    let counted = Command::new(env!("CARGO_BIN_EXE_held"))
        .args(["--allocations", stack.name(), protocol.name()])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&counted.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("no number: {counted:?}"))
}

const SUBJECTS: [(&str, Stack, Protocol); 4] = [
    ("h1 GET, ours", Stack::Ours, Protocol::Http1),
    ("h1 GET, axum", Stack::Axum, Protocol::Http1),
    ("h2 GET, ours", Stack::Ours, Protocol::Http2),
    ("h2 GET, axum", Stack::Axum, Protocol::Http2),
];
