//! How a command reports a response: the body unchanged on standard output, or a rejection as one line on standard
//! error with the exit code 1. It never prints both. A replayed outcome is announced on standard error, so that
//! standard output holds only the result. A body gets a line break behind it and is otherwise unchanged.

use std::process::ExitCode;

use anyhow::Result;

use super::client::Answer;
use crate::cli::output;
use crate::telemetry;

/// The body of an answer. Reports a rejection, and returns the exit code then.
pub(super) fn accepted(answer: &Answer) -> Result<&[u8], ExitCode> {
    if answer.is_replayed() {
        telemetry::say("orderstream: the key was used before; this is what that request did");
    }
    answer.accepted().map_err(|rejection| rejected(&rejection))
}

/// Prints a body as a line.
pub(super) fn print(line: &[u8]) -> Result<()> {
    output::print([line, b"\n"].concat())
}

/// Reports a rejection, and returns the exit code.
pub(super) fn rejected(line: &str) -> ExitCode {
    telemetry::say(&format!("orderstream: {line}"));
    ExitCode::FAILURE
}
