//! The command line: one file per subcommand that is more than a line. Subcommands read settings, call the
//! wiring room and print for people.

mod allocator;
mod copies;
mod descriptors;
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

/// Takes orders over HTTP, makes them durable, has them processed, and answers what really happened.
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
    /// Run only the api: takes orders and answers callers.
    Api,
    /// Run only the worker: processes orders.
    Worker,
    /// Bring the store's schema to this version, beside processes that work there.
    Migrate {
        /// Print the steps and their locks, and change nothing.
        #[arg(long)]
        plan: bool,
        /// Drop what only the release before uses; none of its processes may be running.
        #[arg(long)]
        finish: bool,
        /// Open a copy of the embedded store that was made without its WAL, with what it lacks.
        #[arg(long, conflicts_with_all = ["plan", "finish"])]
        accept_missing_wal: bool,
    },
    /// Copy the embedded store into one file, also while a server works with it.
    Backup(copies::BackupArgs),
    /// Put a copy that `backup` made into the data folder.
    Restore(copies::RestoreArgs),
    /// Print the effective settings and where each came from.
    Config,
    /// Check the store for orders that are lost, doubled or wrong; safe on a live system.
    Verify(verify::Args),
    /// Publish the events of orders again that are pending and whose events were lost; safe on a live system.
    Redrive(redrive::Args),
    /// Talk to a running server: make, change, read, list and follow orders.
    Orders(orders::Args),
    /// Print a document of the interface: OpenAPI for HTTP, AsyncAPI for Kafka.
    Spec {
        /// Which one.
        document: Document,
    },
    /// Print a shell's completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A document of the interface.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Document {
    /// OpenAPI 3.1, also served at /openapi.json.
    Openapi,
    /// AsyncAPI 3.0, also served at /asyncapi.json.
    Asyncapi,
}

/// Reads the command line, or ends the process with help, the version or what is wrong with the line.
#[must_use]
pub fn parse() -> Cli {
    let mut command = Cli::command();
    // The flags of the settings reach every subcommand only now.
    command.build();
    if let Some(orders) = command.find_subcommand_mut("orders") {
        hide_settings(orders);
    }
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

/// Leaves the server's settings out of a client's help.
fn hide_settings(command: &mut clap::Command) {
    let is_setting = |arg: &Arg| arg.get_help_heading() == Some("Settings");
    let bare = std::mem::take(command);
    *command = bare.mut_args(|arg| if is_setting(&arg) { arg.hide(true) } else { arg });
    command.get_subcommands_mut().for_each(hide_settings);
}

impl Cli {
    /// Prepares the process of a server, first of all: it begins anew with an allocator that gives memory back to the
    /// system, so whatever was done before is done twice. Other commands go on as they are.
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

/// Runs the command line and answers the process's exit code: 0 for success, 1 where `verify` finds something.
///
/// A command other than a server's that SIGTERM, SIGINT, SIGHUP or SIGQUIT ends exits with 128 and the signal's number.
/// A command whose reader closes standard output ends without a message, with 0 or the code of its result.
///
/// # Errors
/// Everything that goes wrong, to be printed; exit code 2.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let ended = dispatch(cli);
    telemetry::flush();
    match ended {
        Err(error) if error.is::<output::Closed>() => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    // One library for all of TLS. Where somebody else has chosen one before, that one is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // A server drains at a signal instead.
    let partial = if cli.is_server() { PartialFiles::default() } else { shutdown::end_on_signals()? };
    // Clients and scripts have no use for a server's settings.
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
            // Into memory first: a generator panics where it cannot write.
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

/// The environment's readable part: a variable that is not Unicode cannot be one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A variable of the environment that is no setting of the server; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    environment().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
}

fn client_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
