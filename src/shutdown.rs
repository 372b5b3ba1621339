//! Signals. For a server the first SIGTERM, SIGINT, SIGHUP or SIGQUIT begins an orderly shutdown, and the second one
//! ends the process at once. Any other command ends at the first one, with the exit code that shells have for it. Both
//! also work as the first process of a container, where no signal has a default action.

mod components;
mod partial;

use std::fs;
use std::io;
use std::thread;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use self::components::{Component, Components, named};
pub use self::partial::{PartialFile, PartialFiles};
use crate::telemetry;

/// The exit code of a server that a second signal ended during its shutdown: 128 + SIGINT, as shells have it.
const KILLED: i32 = 130;

/// A command that a signal ends exits with this plus the signal's number, as shells do.
const BY_SIGNAL: i32 = 128;

/// Listens for the signals from now on and returns the token that the first of them cancels.
///
/// # Errors
/// The operating system's, where it allows no handler.
pub fn on_signals() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let stop = token.clone();
    tokio::spawn(async move {
        let (name, _) = signals.next().await;
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        stop.cancel();
        let (name, _) = signals.next().await;
        tracing::warn!(signal = name, "ending at once; pending orders are processed after the next start");
        telemetry::flush();
        std::process::exit(KILLED);
    });
    Ok(token)
}

/// Ends the process at the first signal from now on, for a command that has nothing to drain. Removes the partial files
/// of the result; a file that is being finished is finished first.
///
/// It listens on a thread of its own, so that a signal works also while the command blocks.
///
/// # Errors
/// The operating system's, where it allows no handler.
pub fn end_on_signals() -> io::Result<PartialFiles> {
    let files = PartialFiles::default();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::listen()?
    };
    let partial = files.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let (name, number) = runtime.block_on(signals.next());
        // The lock is held to the end of the process: no other file is begun or finished meanwhile.
        let _files = partial.remove_all();
        telemetry::say(&format!("orderstream: ended by {name}"));
        std::process::exit(BY_SIGNAL + number);
    })?;
    Ok(files)
}

/// The signals that end a process in order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    /// `None` where the parent process ignores it, as nohup does: the process then outlives its terminal.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        let hangup =
            if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup,
        })
    }

    /// The name and the number of the next one.
    async fn next(&mut self) -> (&'static str, i32) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let (name, kind) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
            _ = self.quit.recv() => ("SIGQUIT", SignalKind::quit()),
            _ = hangup => ("SIGHUP", SignalKind::hangup()),
        };
        (name, kind.as_raw_value())
    }
}

/// Whether this process was started with that signal ignored; `false` where the system has no /proc to ask.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
