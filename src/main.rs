//! The `orderstream` binary: reads the command line, runs it, and turns a failure into a message on standard error and
//! the exit code 2. Everything else is in the library. `prepared` must come before any other work: for a server it
//! executes the program again, and work before it would be done twice.

use std::process::ExitCode;

use orderstream::{cli, telemetry};

fn main() -> ExitCode {
    cli::run(cli::parse().prepared()).unwrap_or_else(|error| {
        telemetry::say(&format!("orderstream: {error:#}"));
        ExitCode::from(2)
    })
}
