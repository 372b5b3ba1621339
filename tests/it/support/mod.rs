//! What the tests share: systems to test, ways to break them, and eyes to look at what is left. Waiting is
//! done here and nowhere else: for something that can be observed, with one deadline for a test that hangs.

pub(crate) mod child;
#[expect(dead_code, reason = "its users follow")]
pub(crate) mod client;
pub(crate) mod hooks;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod records;
pub(crate) mod system;
pub(crate) mod wire;

use std::time::Duration;

use tokio::time::{interval, timeout};

/// When a test that still waits is given up. No test needs a noticeable part of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The owner of the orders of a test.
pub(crate) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// Awaits something that must happen.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited for {DEADLINE:?} in vain: {what}"),
    }
}

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut pace = interval(Duration::from_millis(5));
        loop {
            pace.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    })
    .await
}
