//! Puts together what the benches have left: `run.sh` calls it.
//!
//! `results --rows FILE --tables DIR --out benches/RESULTS.md [--picture FILE]
//! [--compared docs/compare.md] [--markdown README.md]`
//!
//! Exits with 1 when a bench has failed: what is there is written all the same.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use benches::{Compared, Line, Results, between, lines_of, locked, machine};
use clap::Parser;

/// Puts together what the benches have left
#[derive(Debug, Parser)]
struct Options {
    /// The rows of all benches, as `BENCH_ROWS` names them
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// The folder with what each bench has printed, NAME.md
    #[arg(long, value_name = "DIR")]
    tables: PathBuf,
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The picture of the curves, as the page names it
    #[arg(long, value_name = "FILE")]
    picture: Option<String>,
    /// What `lifecycle-drill compare` has written
    #[arg(long, value_name = "FILE", default_value = "docs/compare.md")]
    compared: PathBuf,
    /// Puts the first table between the two marks of this file; may be repeated
    #[arg(long, value_name = "FILE")]
    markdown: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("results: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every bench came to its end.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let (lines, no_rows) = lines_of(&options.rows)?;
    let mut warnings: Vec<_> = no_rows.iter().map(ToString::to_string).collect();
    let compared = match read(&options.compared) {
        Ok(text) => Compared::of(&text),
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    };
    warnings.iter().for_each(|warning| eprintln!("results: warning: {warning}"));
    let tables = tables(&options.tables)?;
    let results = Results { about: about(), lines, tables, compared, warnings };
    fs::write(&options.out, results.page(options.picture.as_deref()))?;
    let table = results.table();
    for file in &options.markdown {
        let text = between(&read(file)?, &table)
            .ok_or_else(|| format!("{} has not the two marks", file.display()))?;
        fs::write(file, text)?;
    }
    println!("{table}");
    Ok(!results.lines.iter().any(|line| matches!(line, Line::Ended { code, .. } if *code != 0)))
}

/// What each bench has printed, by its name.
fn tables(folder: &Path) -> Result<BTreeMap<String, String>, io::Error> {
    let mut tables = BTreeMap::new();
    for file in fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "md") {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            tables.insert(name, fs::read_to_string(&file)?);
        }
    }
    Ok(tables)
}

fn read(file: &Path) -> Result<String, Box<dyn Error>> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// The day, the machine, the compiler and the crates.
fn about() -> String {
    let said = |program: &str, argument: &str| {
        let asked = Command::new(program).arg(argument).output();
        let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        said.unwrap_or_default().trim().to_owned()
    };
    let rust = said("rustc", "--version");
    let rust: Vec<_> = rust.split(' ').take(2).collect();
    format!(
        "{}, {}, {}; {}",
        said("date", "--iso-8601"),
        machine(),
        rust.join(" "),
        locked(&CRATES)
    )
}

/// Ours, and those that every bench has; the others are in what each bench says of itself.
const CRATES: [&str; 12] = [
    "lifecycle",
    "lifecycle-tower",
    "lifecycle-worker",
    "tokio",
    "hyper",
    "axum",
    "tokio-util",
    "async-shutdown",
    "drain",
    "tower-http",
    "apalis",
    "hyper-util",
];
