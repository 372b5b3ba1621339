//! `orderstream backup` and `orderstream restore`: copy the embedded store into one file, and back. Each copy is
//! checked as `verify` checks a store. Exit codes: 0 the copy exists and nothing is wrong in it, 1 it exists and has
//! what is wrong in the store, 2 there is no copy.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::{output, verify};
use crate::app;
use crate::checker::verify::Report;
use crate::config::Settings;
use crate::shutdown::PartialFiles;

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Where to write the copy.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace FILE where it exists.
    #[arg(long)]
    force: bool,
    /// Do not check amounts, where a processor of your own computes them.
    #[arg(long)]
    skip_amounts: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// A copy that `orderstream backup` made.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace an existing store.
    #[arg(long)]
    force: bool,
    /// Do not check amounts, where a processor of your own computes them.
    #[arg(long)]
    skip_amounts: bool,
}

/// Makes a copy.
pub(super) async fn back_up(
    settings: &Settings,
    args: BackupArgs,
    partial: PartialFiles,
) -> Result<ExitCode> {
    let options = verify::of_copy(!args.skip_amounts);
    let report = app::back_up(settings, &args.file, args.force, &options, partial).await?;
    let (from, to) = (settings.data_dir.display(), args.file.display());
    print(&report, &format!("{to} is a complete copy of {from}"))
}

/// Puts a copy back.
pub(super) async fn restore(
    settings: &Settings,
    args: RestoreArgs,
    partial: PartialFiles,
) -> Result<ExitCode> {
    let options = verify::of_copy(!args.skip_amounts);
    let report = app::restore(settings, &args.file, args.force, &options, partial).await?;
    let (from, to) = (args.file.display(), settings.data_dir.display());
    print(&report, &format!("{to} holds what was in {from}"))
}

/// Prints what the checker found in a copy, and that the copy exists.
fn print(report: &Report, done: &str) -> Result<ExitCode> {
    output::quiet(output::print(format!("{}{done}\n", verify::as_text(report))))?;
    Ok(verify::exit_code(report))
}
