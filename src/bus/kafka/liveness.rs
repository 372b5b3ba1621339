//! The pulse of a client that reads. librdkafka 2.12 can lose every broker for good: a broker that has just come
//! back may name topics and no brokers at all, and the client then forgets even those it began with. Nothing is
//! ever read again, and nothing tells.
//!
//! So a client from which nothing came for a while is asked for a sign of life, and one that gives none while
//! the link has Kafka is replaced by a new one.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::sync::watch;

use super::broker_monitor::State;

/// After how long without a record a client is asked.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How often in a row it may fail to.
const MISSES: u32 = 3;

/// The signs of life of one client.
pub(super) struct LivenessProbe {
    last: Instant,
    missed: u32,
}

impl LivenessProbe {
    pub(super) fn new() -> LivenessProbe {
        LivenessProbe { last: Instant::now(), missed: 0 }
    }

    /// Something came from it.
    pub(super) fn felt(&mut self) {
        *self = LivenessProbe::new();
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
pub(super) fn drop_in_background<C: ConsumerContext + 'static>(client: BaseConsumer<C>) {
    if let Err(error) = thread::Builder::new().name("kafka-gone".to_owned()).spawn(move || drop(client)) {
        tracing::debug!(%error, "a client was let go of in place");
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_client_that_answers_nothing_is_gone_unless_kafka_is_too() {
        // Nothing listens there.
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        let (up, down) = (State::up(), State::default());
        for (state, gone) in [(down, false), (up, true)] {
            let (_sender, link) = watch::channel(state);
            let mut liveness = LivenessProbe { last: Instant::now(), missed: MISSES - 1 };
            assert!(!liveness.is_gone(&client, "topic", &link), "it has just given a sign of life");
            liveness.last -= QUIET;
            assert_eq!(liveness.is_gone(&client, "topic", &link), gone);
        }
    }
}
