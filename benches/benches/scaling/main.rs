//! What one more costs: threads, connections, hooks, components, checks, jobs in flight; as
//! tables, as a picture, and with a verdict each.
//!
//! The picture goes to the file that the variable `BENCH_PICTURE` names. Nothing here is against
//! an opponent: a curve is held against itself.
#![allow(clippy::print_stdout, reason = "the table is what a bench is run for")]

mod connections;
mod jobs;
mod parts;
mod picture;
mod threads;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use benches::{
    Asked, Broken, Curve, Growth, Point, Record, Spoilt, asked, locked, machine, record,
    record_with,
};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(connections::CHILD) {
        return connections::serve();
    }
    let wanted = match asked(&[]) {
        Asked::Done(code) => return code,
        Asked::Measure(wanted) => wanted,
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = Rc::new(runtime.expect("a runtime"));
    let most = wanted.connections.map_or(connections::MOST, |most| most as u64);
    let (numbers, less) = connections::numbers(most);
    if numbers.len() < 2 {
        eprintln!("error: {most} connections are too few for a curve");
        return ExitCode::from(2);
    }
    let rounds = wanted.rounds(ROUNDS, ROUNDS_SHORT);
    let with = locked(&["lifecycle", "lifecycle-tower", "lifecycle-worker", "tokio"]);
    let with = less.map_or(with.clone(), |less| format!("{with}; {less}"));
    println!("### scaling: what one more costs\n\n{}; {with}.", machine());
    println!("Medians of {rounds} interleaved rounds.\n");
    record_with(&with);
    let (mut curves, mut judged, mut is_whole) = (Vec::new(), Vec::new(), true);
    if wanted.is_wanted(threads::NAME) {
        let rounds = rounds * threads::ROUNDS_EACH;
        match Broken::attempt(threads::NAME, || threads::curve(rounds)) {
            Ok(curve) => {
                judged.extend(ended(std::slice::from_ref(&curve)));
                curves.push(curve);
            }
            Err(broken) => {
                eprintln!("error: {broken}");
                is_whole = false;
            }
        }
    }
    for mut series in series(&runtime, &numbers) {
        if series.curves.iter().any(|curve| wanted.is_wanted(curve.name)) {
            series.measure_all(rounds);
            judged.extend(ended(&series.curves));
            curves.append(&mut series.curves);
        }
    }
    println!("| curve | at the greatest | at the middle | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    is_whole &= curves.iter().all(Curve::is_whole);
    curves.retain(Curve::is_whole);
    if is_whole && is_drawn(&curves) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints and records what came of some curves.
fn ended(curves: &[Curve]) -> Vec<Record> {
    curves.iter().for_each(|curve| println!("{}", curve.table()));
    let judged: Vec<_> = curves.iter().map(Curve::judge).collect();
    record(&judged);
    judged
}

/// Draws them, if there is somewhere to; false if that fails.
fn is_drawn(curves: &[Curve]) -> bool {
    let Some(file) = env::var_os("BENCH_PICTURE").filter(|_| !curves.is_empty()) else {
        return true;
    };
    let drawn = picture::draw(Path::new(&file), curves);
    drawn.inspect_err(|error| eprintln!("error: no picture: {error}")).is_ok()
}

/// Curves that are measured together.
struct Series {
    curves: Vec<Curve>,
    /// A figure for each curve, of so many.
    run: Box<dyn Fn(u64) -> Vec<f64>>,
}

impl Series {
    fn new(
        numbers: &[u64],
        curves: &[(&'static str, &'static str, &'static str, Growth)],
        run: impl Fn(u64) -> Vec<f64> + 'static,
    ) -> Self {
        let points = numbers.iter().map(|&number| Point { number, figures: Vec::new() });
        let points: Vec<_> = points.collect();
        let curve = |&(name, of, unit, growth)| Curve {
            name,
            of,
            unit,
            growth,
            points: points.clone(),
            spoilt: None,
        };
        Self { curves: curves.iter().map(curve).collect(), run: Box::new(run) }
    }

    /// All rounds; none of them if it breaks in one.
    fn measure_all(&mut self, rounds: usize) {
        let name = self.curves[0].name;
        let measured = Broken::attempt(name, || {
            (0..rounds).for_each(|round| self.measure(round));
        });
        if let Err(broken) = measured {
            eprintln!("error: {broken}");
            for curve in &mut self.curves {
                curve.points.iter_mut().for_each(|point| point.figures.clear());
                curve.spoilt = Some(Spoilt::Ours(broken.clone()));
            }
        }
    }

    /// One round; who comes first differs from round to round.
    fn measure(&mut self, round: usize) {
        let points = self.curves.first().map_or(0, |curve| curve.points.len());
        for nth in 0..points {
            let at = (nth + round) % points;
            let figures = (self.run)(self.curves[0].points[at].number);
            for (curve, figure) in self.curves.iter_mut().zip(figures) {
                curve.points[at].figures.push(figure);
            }
        }
    }
}

fn series(runtime: &Rc<Runtime>, connections: &[u64]) -> Vec<Series> {
    let on = |run: fn(&Runtime, u64) -> Vec<f64>| {
        let runtime = runtime.clone();
        move |number| run(&runtime, number)
    };
    vec![
        Series::new(
            connections,
            &[
                (
                    "idle connections closed, until `run` has returned",
                    "connections",
                    "ms",
                    Growth::Linear,
                ),
                ("memory of held connections", "connections", "KiB", Growth::Linear),
            ],
            |number| connections::measure(number).into(),
        ),
        Series::new(
            &[1, 10, 100, 1_000, 10_000],
            &[("a shutdown with close hooks", "hooks", "ms", Growth::Linear)],
            on(parts::hooks),
        ),
        Series::new(
            &[1, 10, 100, 1_000],
            &[
                ("a start with components", "components", "ms", Growth::Linear),
                ("a shutdown with components", "components", "ms", Growth::Linear),
            ],
            on(parts::components),
        ),
        Series::new(
            &[1, 10, 100, 1_000],
            &[("an answer of `/readyz`", "checks", "us", Growth::Linear)],
            on(parts::checks),
        ),
        Series::new(
            &[1, 10, 100, 1_000],
            &[
                ("a job, on the wall", "jobs at a time", "us", Growth::Flat),
                ("a job, of the processors", "jobs at a time", "us", Growth::Flat),
            ],
            on(jobs::measure),
        ),
    ]
}

const ROUNDS: usize = 5;
const ROUNDS_SHORT: usize = 1;
