//! Threads: the gate's enter and leave on one and on two. With more threads than cores they only
//! wait for each other's turn, which says nothing of the gate.

use std::hint::black_box;

use benches::{Curve, Growth, Point, Rounds, Setting, Spoilt, Subject, production, work};
use lifecycle::Kind;

/// The curve, with two pinned threads beside a control that shares nothing.
pub(crate) fn curve(rounds: usize) -> Curve {
    let life = production();
    let handle = life.handle();
    let subject = Subject::new(NAME, move || {
        let gate = handle.gate(Kind::Work);
        work(move || drop(black_box(gate.enter_unnamed().expect("open"))))
    });
    let measured = Rounds::of_pinned(&[subject], rounds);
    let spoilt = (!measured.is_control_flat(NAME))
        .then(|| Spoilt::Setting("the control is not flat, or there is one core".to_owned()));
    let points = [(1, Setting::One), (2, Setting::Two)]
        .map(|(number, setting)| Point { number, figures: measured.of(NAME, setting).to_vec() });
    Curve {
        name: NAME,
        of: "threads",
        unit: "ns",
        growth: Growth::Flat,
        points: points.into(),
        spoilt,
    }
}

pub(crate) const NAME: &str = "gate: enter and leave";
/// A round takes 8 ms only.
pub(crate) const ROUNDS_EACH: usize = 10;
