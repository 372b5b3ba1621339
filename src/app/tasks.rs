//! The tasks of a process. A task that ends before its stop token is cancelled stops the whole process in order, and
//! the process fails with the task's name; a panic counts as such an end. A process must never look alive while one of
//! its tasks is dead, nor while a thread of the store, the bus, the cache or the log is: `watch` waits for those. A
//! failure is logged at once, because the shutdown after it may take long. A worker that stops has the shutdown timeout
//! to finish.

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

/// Runs a role as a task that cancels `stop` when it ends. It fails where it panics, and where it ends before
/// `asked_to_end` is cancelled.
pub(super) fn spawn<R: Future<Output = Result<()>> + Send + 'static>(
    name: &'static str,
    role: R,
    asked_to_end: &CancellationToken,
    stop: CancellationToken,
) -> JoinHandle<Result<()>> {
    let asked_to_end = asked_to_end.clone();
    tokio::spawn(async move {
        let _stop = stop.drop_guard();
        let ended = match AssertUnwindSafe(role).catch_unwind().await {
            Ok(Ok(())) if !asked_to_end.is_cancelled() => Err(anyhow!("it ended early")),
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

/// Waits until a part ends that no role can work without, and fails with its name.
pub(super) async fn watch(backends: Backends) -> Result<()> {
    let part = tokio::select! {
        part = backends.store.failed() => part,
        part = backends.bus.failed() => part,
        part = backends.cache.failed() => part,
        () = telemetry::failed() => "the thread that writes the log",
    };
    bail!("{part} ended by itself; the process stops, and unfinished work is pending in the store")
}

/// Ends a task that has no end of its own, and returns its failure, if it has failed before.
pub(super) async fn failure(task: JoinHandle<Result<()>>) -> Result<()> {
    task.abort();
    // A task without a result was ended by the abort, which is not a failure.
    task.await.unwrap_or(Ok(()))
}

/// Waits for a worker that is stopping, until the shutdown timeout.
pub(super) async fn finished(mut worker: JoinHandle<Result<()>>, settings: &Settings) -> Result<()> {
    match timeout(settings.shutdown_timeout, &mut worker).await {
        Ok(ended) => ended?,
        Err(_) => {
            tracing::warn!(
                "shutdown timed out while the worker was busy; its unsettled events will be redelivered"
            );
            worker.abort();
            Ok(())
        }
    }
}
