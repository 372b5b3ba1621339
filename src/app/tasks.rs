//! The tasks of a process: each takes the whole process down with it, in order, when it ends before it was told to, and
//! the process then fails with its name. No process goes on that looks alive and does nothing.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backends::Backends;
use crate::config::Settings;
use crate::telemetry;

/// Runs a role as a task that takes the whole process down with it, in order, when it ends. It fails where it panics,
/// and where it ends before it was told to.
pub(super) fn spawn<R: Future<Output = Result<()>> + Send + 'static>(
    name: &'static str,
    role: R,
    told: &CancellationToken,
    stop: CancellationToken,
) -> JoinHandle<Result<()>> {
    let told = told.clone();
    tokio::spawn(async move {
        let _stop = stop.drop_guard();
        let ended = match AssertUnwindSafe(role).catch_unwind().await {
            Ok(Ok(())) if !told.is_cancelled() => Err(anyhow!("it ended before it was told to")),
            Ok(ended) => ended,
            Err(_) => Err(anyhow!("it panicked")),
        };
        let ended = ended.with_context(|| format!("the {name} failed"));
        if let Err(error) = &ended {
            tracing::error!("{error:#}");
        }
        ended
    })
}

/// Waits for the end of a part that no role can work without, and fails with its name.
pub(super) async fn watch(parts: Backends) -> Result<()> {
    let part = tokio::select! {
        part = parts.store.failed() => part,
        part = parts.bus.failed() => part,
        part = parts.cache.failed() => part,
        () = telemetry::failed() => "the thread that writes the log",
    };
    bail!("{part} ended by itself; the process stops, and what it has not done is pending in the store")
}

/// The failure of a task that goes on until it is ended here, if it has failed.
pub(super) async fn failure(task: JoinHandle<Result<()>>) -> Result<()> {
    task.abort();
    // It was ended just now, as it should be, where it has no result.
    task.await.unwrap_or(Ok(()))
}

/// Waits for a worker that was told to stop, as long as it may take.
pub(super) async fn finished(mut worker: JoinHandle<Result<()>>, settings: &Settings) -> Result<()> {
    match timeout(settings.shutdown_timeout, &mut worker).await {
        Ok(ended) => ended?,
        Err(_) => {
            tracing::warn!(
                "the worker was still busy when the time to finish was over; its orders come again"
            );
            worker.abort();
            Ok(())
        }
    }
}
