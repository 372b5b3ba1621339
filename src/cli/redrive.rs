//! `orderstream redrive`: publishes again the events of orders that are pending although the workers have consumed
//! everything on the bus. It puts their entries back into the outbox; the next sweep of a running process publishes the
//! events. It never publishes an event itself. Exit codes: 0 done, 1 some orders may be in the workers' backlog, 2 an
//! error.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use super::fields::{order_id, status, user_id};
use super::output;
use crate::app::{self, ReadOnlyBackends};
use crate::checker::redrive::{Filter, Found, Options, Progress, redrive};
use crate::config::Settings;
use crate::order::{OrderId, Status, UserId};

/// How many orders are printed.
const LISTED: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only find the orders, and print them.
    #[arg(long)]
    dry_run: bool,
    /// Only these orders.
    #[arg(long = "order", value_name = "ORDER_ID", value_parser = order_id)]
    orders: Vec<OrderId>,
    /// Only orders of this user.
    #[arg(long, value_name = "USER_ID", value_parser = user_id)]
    user: Option<UserId>,
    /// Only orders with this status.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Only orders that have not changed for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    older_than: u64,
    /// At most this many orders.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    limit: usize,
    /// At most this many orders per second.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How many seconds to wait for the workers to consume what is on the bus.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Do not wait for the workers; an event that is still on the bus is then delivered twice, which is harmless.
    #[arg(long)]
    force: bool,
}

/// Finds the orders, and puts their entries back.
pub(super) async fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    if settings.postgres_dsn.is_none() {
        bail!(
            "POSTGRES_DSN is not set, and the embedded store has no outbox: restart its process, which publishes every \
             pending order's event"
        );
    }
    let backends = app::open_for_reading(settings).await?;
    let ended = redrive_and_print(&backends, &args).await;
    backends.bus.close().await;
    backends.store.close().await;
    ended
}

async fn redrive_and_print(backends: &ReadOnlyBackends, args: &Args) -> Result<ExitCode> {
    let options = Options {
        filter: Filter { orders: args.orders.clone(), user_id: args.user, status: args.status },
        older_than: Duration::from_secs(args.older_than),
        limit: args.limit,
        rate: args.rate,
        wait: (!args.force).then_some(Duration::from_secs(args.wait)),
        dry_run: args.dry_run,
    };
    let mut bar = ProgressBar::new();
    let found =
        redrive(&*backends.store, &*backends.bus, &options, &mut |progress| bar.show(progress)).await?;
    bar.end();
    output::quiet(output::print(as_text(&found, args)))?;
    Ok(if found.in_backlog > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn as_text(found: &Found, args: &Args) -> String {
    let mut text = String::new();
    let count = found.entries.len();
    if args.dry_run {
        for entry in found.entries.iter().take(LISTED) {
            let changed =
                entry.updated_at.map_or_else(|| "at an unknown time".to_owned(), |at| at.to_string());
            let _ = writeln!(text, "{} version {} {} {changed}", entry.order_id, entry.version, entry.status);
        }
        if count > LISTED {
            let _ = writeln!(text, "... and {} more", count - LISTED);
        }
    }
    if found.in_backlog > 0 {
        let why = match &found.bus_error {
            Some(error) => format!("how far the workers have consumed is not known ({error})"),
            None => "the workers have not consumed what is on the bus".to_owned(),
        };
        let _ = writeln!(
            text,
            "{} orders are pending, and {why}: their events may still be on the bus. They were left alone; try again \
             later, with a longer --wait, or with --force.",
            found.in_backlog
        );
    }
    let _ = match args.dry_run {
        true => writeln!(text, "{count} orders would be published again"),
        false => writeln!(text, "{} of {count} orders will be published again", found.redriven),
    };
    text
}

/// The progress on standard error: a bar on a terminal, nothing elsewhere.
struct ProgressBar {
    is_terminal: bool,
    width: usize,
}

impl ProgressBar {
    fn new() -> ProgressBar {
        ProgressBar { is_terminal: std::io::stderr().is_terminal(), width: 0 }
    }

    fn show(&mut self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        let line = match progress {
            Progress::Searching { scanned, found } => format!("{scanned} orders checked, {found} found"),
            Progress::Waiting => "waiting for the workers".to_owned(),
            Progress::Redriving { done, of } => {
                let full = 40 * done / of.max(1);
                format!("[{}{}] {done}/{of}", "#".repeat(full), ".".repeat(40 - full))
            }
        };
        // Blanks overwrite the rest of a longer line before.
        let _ = write!(std::io::stderr(), "\r{line:<width$}", width = self.width);
        self.width = line.len();
    }

    fn end(&self) {
        if self.width > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}
