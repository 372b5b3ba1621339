//! Waiting for observable states. A test waits for an event or a state, and never for time to pass. The only limit is
//! for a test that would hang; no test that passes comes close to it.

use std::time::Duration;

use tokio::time::{interval, timeout};

use crate::clients::http::GUARD;

/// The pause between two checks of a state that cannot be awaited.
const CHECK_PERIOD: Duration = Duration::from_millis(5);

/// Awaits a future that must complete; fails the test at the limit.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(GUARD, future).await.unwrap_or_else(|_| panic!("waited for {GUARD:?} in vain: {what}"))
}

/// Calls a check until it answers a value.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut period = interval(CHECK_PERIOD);
        loop {
            period.tick().await;
            if let Some(value) = check().await {
                return value;
            }
        }
    })
    .await
}
