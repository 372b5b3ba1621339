//! The command line: one file for each subcommand that needs more than a line. A subcommand reads its arguments and the
//! settings, calls `app`, and prints the result for people or programs. Nothing here opens a store or a bus itself. The
//! environment is read in this folder and passed on to `config`. The exit codes are 0 for success, 1 for a finding or a
//! rejection, and 2 for a failure, which `main` prints. Commands that need no setting run before the settings are
//! loaded, so that a wrong one does not keep them from working.

mod allocator;
mod copies;
mod descriptors;
mod fields;
mod orders;
mod output;
mod redrive;
mod serve;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Flags, Settings};
use crate::shutdown::PartialFiles;
use crate::{api, app, shutdown, telemetry};

/// Takes orders over HTTP and gRPC, stores them durably, has a worker process them, and answers with the outcome.
#[derive(Debug, Parser)]
#[command(name = "orderstream", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run api and worker in one process (the default).
    Up,
    /// Run only the api, which takes orders and answers callers.
    Api,
    /// Run only the worker, which processes orders.
    Worker,
    /// Migrate the store's schema to this version; safe while servers run on Postgres.
    Migrate {
        /// Print the steps and their locks, and change nothing.
        #[arg(long)]
        plan: bool,
        /// Drop what only the previous release uses; none of its processes may be running.
        #[arg(long)]
        finish: bool,
        /// Open a copy of the embedded store whose WAL is missing; changes that were only in the WAL are lost.
        #[arg(long, conflicts_with_all = ["plan", "finish"])]
        accept_missing_wal: bool,
    },
    /// Copy the embedded store into one file; safe while a server runs on it.
    Backup(copies::BackupArgs),
    /// Put a copy that `backup` made into the data folder; no server may run on it.
    Restore(copies::RestoreArgs),
    /// Print the settings in force and where each came from.
    Config,
    /// Check the store for orders that are lost, doubled or wrong; safe on a live system.
    Verify(verify::Args),
    /// Publish again the events of pending orders that Kafka has lost; safe on a live system.
    Redrive(redrive::Args),
    /// Call a running server: create, change, read, list and follow orders.
    Orders(orders::Args),
    /// Print an interface description: OpenAPI for HTTP, AsyncAPI for Kafka.
    Spec {
        /// The description.
        document: Document,
    },
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// An interface description.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Document {
    /// OpenAPI 3.1, also served at /openapi.json.
    Openapi,
    /// AsyncAPI 3.0, also served at /asyncapi.json.
    Asyncapi,
}

/// The commands whose help lists every setting.
const SERVERS: [&str; 3] = ["up", "api", "worker"];

/// The commands that read no setting.
const WITHOUT_SETTINGS: [&str; 4] = ["orders", "spec", "completions", "help"];

/// What the help of the other commands says instead of the list.
const SETTINGS_HINT: &str = "Settings, such as --data-dir and --postgres-dsn, are accepted here too: `orderstream up \
                             --help` lists them.";

/// Reads the command line, or ends the process with the help, the version or the mistake in the line.
#[must_use]
pub fn parse() -> Cli {
    let mut command = Cli::command();
    // The flags of the settings reach the subcommands only when the command is built.
    command.build();
    for subcommand in command.get_subcommands_mut() {
        let name = subcommand.get_name();
        if SERVERS.contains(&name) {
            continue;
        }
        let reads_settings = !WITHOUT_SETTINGS.contains(&name);
        hide_settings(subcommand);
        if reads_settings {
            *subcommand = std::mem::take(subcommand).after_help(SETTINGS_HINT);
        }
    }
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// Leaves the settings out of a command's help; the flags still work.
fn hide_settings(command: &mut clap::Command) {
    let is_setting = |arg: &Arg| arg.get_help_heading() == Some("Settings");
    let bare = std::mem::take(command);
    *command = bare.mut_args(|arg| if is_setting(&arg) { arg.hide(true) } else { arg });
    command.get_subcommands_mut().for_each(hide_settings);
}

impl Cli {
    /// Prepares the process of a server. It replaces the process by one whose allocator returns memory to the system,
    /// so call it first: what was done before is done twice. Other commands continue unchanged.
    #[must_use]
    pub fn prepared(self) -> Cli {
        if self.is_server() {
            allocator::limit();
        }
        self
    }

    fn is_server(&self) -> bool {
        matches!(self.command, None | Some(Command::Up | Command::Api | Command::Worker))
    }
}

/// Runs the command line and returns the process's exit code: 0 for success, 1 where `verify` finds something.
///
/// SIGTERM, SIGINT, SIGHUP and SIGQUIT end a command that is not a server with 128 and the signal's number.
/// A command whose reader closes standard output ends without a message, with 0 or the code of its result.
///
/// # Errors
/// Any failure, for the caller to print; its exit code is 2.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let ended = dispatch(cli);
    telemetry::flush();
    match ended {
        Err(error) if error.is::<output::Closed>() => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    // One library for all of TLS. An embedding program may have installed one before; that one works as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // A server drains at a signal; any other command ends at once.
    let partial = if cli.is_server() { PartialFiles::default() } else { shutdown::end_on_signals()? };
    // These commands read no settings, so a wrong setting does not keep them from working.
    match cli.command {
        Some(Command::Orders(args)) => {
            let server = variable("ORDERSTREAM_SERVER");
            return client_runtime()?.block_on(orders::run(args, server));
        }
        Some(Command::Spec { document }) => {
            match document {
                Document::Openapi => output::print(api::openapi_json())?,
                Document::Asyncapi => output::print(api::ASYNCAPI_JSON)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Completions { shell }) => {
            // The generator panics where it cannot write, so it writes into memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "orderstream", &mut script);
            output::print(script)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let loaded = Settings::load(&cli.flags, environment())?;
    let settings = &loaded.settings;
    telemetry::init(&settings.log_level, settings.log_format == crate::config::LogFormat::Json)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match cli.command.unwrap_or(Command::Up) {
        Command::Up => serve::run(settings, serve::Role::Up)?,
        Command::Api => serve::run(settings, serve::Role::Api)?,
        Command::Worker => serve::run(settings, serve::Role::Worker)?,
        Command::Backup(args) => return client_runtime()?.block_on(copies::back_up(settings, args, partial)),
        Command::Restore(args) => {
            return client_runtime()?.block_on(copies::restore(settings, args, partial));
        }
        Command::Migrate { plan: true, finish, .. } => {
            let plan = client_runtime()?.block_on(app::migration_plan(settings, finish))?;
            output::print(format!("{plan}\n"))?;
        }
        Command::Migrate { plan: false, finish, accept_missing_wal } => {
            let runtime = client_runtime()?;
            let migrated = match finish {
                true => runtime.block_on(app::migrate_and_finish(settings))?,
                false => runtime.block_on(app::migrate(settings, accept_missing_wal))?,
            };
            output::print(format!("{migrated}\n"))?;
        }
        Command::Config => output::print(loaded.to_string())?,
        Command::Verify(args) => return client_runtime()?.block_on(verify::run(settings, args)),
        Command::Redrive(args) => return client_runtime()?.block_on(redrive::run(settings, args)),
        Command::Orders(_) | Command::Completions { .. } | Command::Spec { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The variables of the environment that are Unicode; the name and value of each setting are.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A variable of the environment that is not a setting of the server; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    environment().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
}

fn client_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
