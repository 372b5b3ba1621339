//! Readiness: whether the service can take orders and publish them. Each backend is checked once for all callers, by a
//! task that continues when a caller leaves, and the outcome is reused for a moment. A backend that does not answer in
//! time is unavailable; its check continues, and a second one does not begin beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::bus::Bus;
use crate::cache::Cache;
use crate::store::Maintenance;

/// How long the outcome of a check is reused.
const FRESH: Duration = Duration::from_millis(250);

/// How long a backend may take to answer, counted from the begin of its check.
const TIMEOUT: Duration = Duration::from_millis(750);

/// Whether the service can take orders, and publish them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Without the store nothing can be accepted.
    pub store: Result<(), String>,
    /// Without the bus orders are accepted and wait.
    pub bus: Result<(), String>,
    /// Without the cache reads go to the store; `None` where no cache is configured.
    pub cache: Option<Result<(), String>>,
}

/// The backends that a process depends on, and their checks. Api and worker processes have them.
pub struct Checks {
    backends: (Arc<dyn Maintenance>, Arc<dyn Bus>, Arc<dyn Cache>),
    store: Check,
    bus: Check,
    cache: Check,
}

/// The newest check of a backend.
#[derive(Default)]
struct Check {
    // std Mutex: held to look at the newest check or to begin one, never across .await
    newest: Mutex<Option<Running>>,
}

/// A check that has begun.
#[derive(Clone)]
struct Running {
    begun: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = (Instant, Result<(), String>);

impl Running {
    /// Whether it still runs, or has ended a moment ago.
    fn counts(&self) -> bool {
        match &*self.outcome.borrow() {
            Some((at, _)) => at.elapsed() < FRESH,
            // A check that panicked never ends.
            None => self.outcome.has_changed().is_ok(),
        }
    }
}

impl Check {
    /// The outcome of the newest check; where that is too old, of a new one.
    async fn outcome<F>(&self, check: impl FnOnce() -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let Running { begun, mut outcome } = self.newest(check);
        let outcome = timeout_at((begun + TIMEOUT).into(), outcome.wait_for(Option::is_some)).await;
        match outcome {
            Ok(Ok(outcome)) => outcome.as_ref().map_or(Ok(()), |(_, outcome)| outcome.clone()),
            Ok(Err(_)) => Err("the check failed".to_owned()),
            Err(_) => Err("it did not answer in time".to_owned()),
        }
    }

    fn newest<F>(&self, check: impl FnOnce() -> F) -> Running
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = newest.as_ref().filter(|running| running.counts()) {
            return running.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let checking = check();
        tokio::spawn(async move {
            let outcome = checking.await;
            sender.send_replace(Some((Instant::now(), outcome)));
        });
        newest.insert(Running { begun: Instant::now(), outcome }).clone()
    }
}

impl Checks {
    /// The checks of these backends.
    #[must_use]
    pub fn new(store: Arc<dyn Maintenance>, bus: Arc<dyn Bus>, cache: Arc<dyn Cache>) -> Checks {
        let backends = (store, bus, cache);
        Checks { backends, store: Check::default(), bus: Check::default(), cache: Check::default() }
    }

    /// Whether each backend works now. Answers within a second.
    pub async fn readiness(&self) -> Readiness {
        let (store, bus, cache) = &self.backends;
        let store = self.store.outcome(|| {
            let store = Arc::clone(store);
            async move { store.check().await.map_err(|error| error.to_string()) }
        });
        let bus = self.bus.outcome(|| {
            let bus = Arc::clone(bus);
            async move { bus.check().await.map_err(|error| error.to_string()) }
        });
        let cache = async {
            if cache.is_off() {
                return None;
            }
            let outcome = self.cache.outcome(|| {
                let cache = Arc::clone(cache);
                async move { cache.check().await.map_err(|error| error.to_string()) }
            });
            Some(outcome.await)
        };
        let (store, bus, cache) = tokio::join!(store, bus, cache);
        Readiness { store, bus, cache }
    }
}
