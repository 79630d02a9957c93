//! The command `lifecycle-drill`: drills how any command stops. `lifecycle-drill --help`.
//!
//! Not here: the scenarios and their clients, which are the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect())
}
