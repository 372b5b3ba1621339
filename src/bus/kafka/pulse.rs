//! The pulse of a client that reads. librdkafka can lose every broker for good: a broker that has just come back
//! may name topics and no brokers at all, and the client then forgets even those it began with (librdkafka
//! issue 5301, open as of 2.12). Nothing is ever read again, and nothing tells.
//!
//! So a client from which nothing came for a while is asked for a sign of life, and one that gives none while
//! the link has Kafka is replaced by a new one.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::sync::watch;

use super::link::State;

/// After how long without a record a client is asked.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How often in a row it may fail to.
const MISSES: u32 = 3;

/// The signs of life of one client.
pub(super) struct Pulse {
    last: Instant,
    missed: u32,
}

impl Pulse {
    pub(super) fn new() -> Pulse {
        Pulse { last: Instant::now(), missed: 0 }
    }

    /// Something came from it.
    pub(super) fn felt(&mut self) {
        *self = Pulse::new();
    }

    /// Whether the client gives no sign of life although Kafka is there. Blocks while it asks.
    pub(super) fn is_gone<C: ConsumerContext>(
        &mut self,
        client: &BaseConsumer<C>,
        topic: &str,
        link: &watch::Receiver<State>,
    ) -> bool {
        if self.last.elapsed() < QUIET {
            return false;
        }
        if !link.borrow().is_up() || client.fetch_metadata(Some(topic), ANSWER).is_ok() {
            self.felt();
            return false;
        }
        self.missed += 1;
        self.missed >= MISSES
    }
}

/// Lets go of a client where that holds nobody up: one that is gone may take long to end.
pub(super) fn bury<C: ConsumerContext + 'static>(client: BaseConsumer<C>) {
    if let Err(error) = thread::Builder::new().name("kafka-gone".to_owned()).spawn(move || drop(client)) {
        tracing::debug!(%error, "a client was let go of in place");
    }
}
