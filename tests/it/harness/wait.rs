//! Waiting for what can be observed. A test waits for a thing to happen and never for time to pass; the one
//! limit here is for a test that would hang, and no test needs a noticeable part of it.

use std::time::Duration;

use tokio::time::{interval, timeout};

use crate::clients::http::GUARD;

/// How often a state is looked at that nothing tells about.
const PACE: Duration = Duration::from_millis(5);

/// Awaits something that must happen.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(GUARD, future).await.unwrap_or_else(|_| panic!("waited for {GUARD:?} in vain: {what}"))
}

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    })
    .await
}
