//! How the process is told to stop. The first SIGTERM or SIGINT begins an orderly shutdown, the second one
//! ends the process at once: somebody is waiting for it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// The exit code of a process that was stopped in the middle of its shutdown: 128 + SIGINT, as shells have it.
const KILLED: i32 = 130;

/// Listens for the signals from now on and answers the token that the first of them cancels.
///
/// # Errors
/// The operating system's own, where it does not let us listen.
pub fn on_signals() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = token.clone();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        stop.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "ending at once; orders under way are taken up at the next start");
        telemetry::flush();
        std::process::exit(KILLED);
    });
    Ok(token)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
