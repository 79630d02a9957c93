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

use benches::{Asked, Curve, Growth, Point, asked, locked, machine, record, record_with};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(connections::CHILD) {
        return connections::serve();
    }
    let (rounds, only) = match asked(&[]) {
        Asked::Done(code) => return code,
        Asked::Measure { rounds, only } => (rounds.unwrap_or(ROUNDS), only),
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut series = series(&Rc::new(runtime.expect("a runtime")));
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    series.retain(|series| series.curves.iter().any(|curve| is_wanted(curve.name)));
    for round in 0..rounds {
        series.iter_mut().for_each(|series| series.measure(round));
    }
    let mut curves: Vec<_> = series.into_iter().flat_map(|series| series.curves).collect();
    if is_wanted(threads::NAME) {
        curves.insert(0, threads::curve(rounds * threads::ROUNDS_EACH));
    }
    let with = locked(&["lifecycle", "lifecycle-tower", "lifecycle-worker", "tokio"]);
    print(&with, rounds, &curves);
    match env::var_os("BENCH_PICTURE") {
        Some(file) => match picture::draw(Path::new(&file), &curves) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: no picture: {error}");
                ExitCode::FAILURE
            }
        },
        None => ExitCode::SUCCESS,
    }
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

fn series(runtime: &Rc<Runtime>) -> Vec<Series> {
    let on = |run: fn(&Runtime, u64) -> Vec<f64>| {
        let runtime = runtime.clone();
        move |number| run(&runtime, number)
    };
    vec![
        Series::new(
            &connections::numbers(),
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

fn print(with: &str, rounds: usize, curves: &[Curve]) {
    println!("### scaling: what one more costs\n\n{}; {with}.", machine());
    println!("Medians of {rounds} interleaved rounds.\n");
    curves.iter().for_each(|curve| println!("{}", curve.table()));
    println!("| curve | at the greatest | at the middle | ratio min - median - max | reach | |");
    println!("|---|---|---|---|---|---|");
    let judged: Vec<_> = curves.iter().map(Curve::judge).collect();
    judged.iter().for_each(|judged| println!("{}", judged.line()));
    println!();
    record(&judged);
    record_with(with);
}

const ROUNDS: usize = 5;
