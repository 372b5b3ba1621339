//! Long work on blocking threads: parsing or writing a large JSON text would delay every other request of its thread.
//! Short work runs in place, because a change of threads costs more than the work. At most as many pieces of long work
//! run at a time as there are processors.

use std::sync::LazyLock;
use std::thread;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::problem::Problem;
use crate::error::Error;

/// The longest text, in bytes, that is parsed or written on a thread of the runtime.
pub(super) const LONG_TEXT: usize = 32 << 10;

/// A turn for each processor. With a thread for each piece of work, the few threads of the runtime would rarely run,
/// and every request would wait, liveness included.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(thread::available_parallelism().map_or(1, usize::from)));

/// Runs long work on a thread where other requests do not wait for it.
///
/// # Errors
/// Those of the work; `store_unavailable` where the runtime shuts down.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    // The work keeps its turn to its end, also where the caller is gone. The semaphore is never closed.
    let turn = TURNS.acquire().await.map_err(|_| Error::Unavailable)?;
    let work = move || {
        let _turn = turn;
        work()
    };
    join(tokio::task::spawn_blocking(work)).await?
}

/// Makes the text of a response that holds `payload` bytes of payload, on a blocking thread where that takes long.
///
/// # Errors
/// `store_unavailable` where the runtime shuts down.
pub(super) async fn write(
    payload: usize,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Vec<u8>, Problem> {
    match payload > LONG_TEXT {
        true => run(|| Ok(make())).await,
        false => Ok(make()),
    }
}

/// The outcome of work in a task of its own. A panic in the task continues in the caller's task.
///
/// # Errors
/// `store_unavailable` where the runtime shuts down.
pub(super) async fn join<T>(work: JoinHandle<T>) -> Result<T, Error> {
    work.await.or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Unavailable),
    })
}
