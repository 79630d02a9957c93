//! Worker processes told to stop, or killed, at random moments, and judged by what became of
//! their jobs. Exits with 1 when a promise is broken.
//!
//! `cargo run -p tests --bin torture -- --queue sqlite|postgres|redis|amqp|nats
//! [--rounds 200] [--workers 4] [--kill term|kill|mixed|late] [--claim runner|select] [--seed N]`
//!
//! It starts a private server, and itself as the workers. `--claim select` is the control: a
//! worker whose loop is dropped by `select!`, as many are. It has to be found out.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::large_futures, reason = "it runs once")]

use std::env;
use std::process::{ExitCode, Termination};

use tests::torture::{Options, torture, work};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "worker") {
        return match work().await {
            Ok(report) => report.report(),
            Err(error) => fail(&*error, 1),
        };
    }
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(error) => return fail(&error, 2),
    };
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail(&error, 1),
    };
    println!("torture {options}");
    let verdict = Box::pin(torture(&program, &options)).await;
    println!("{verdict}");
    ExitCode::from(u8::from(!verdict.is_kept()))
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprint!("torture: {error}");
    let mut source = error.source();
    // Bound: the sources of an error are few.
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    ExitCode::from(code)
}
