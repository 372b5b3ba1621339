//! The liveness probe of a client that reads. librdkafka 2.12 can lose every broker for good: a broker that has just
//! restarted may name topics and no brokers at all, and the client then drops even its bootstrap brokers. It never
//! reads anything again, and reports no error.
//!
//! So an idle client is probed, and replaced if it does not respond while the broker monitor reaches Kafka.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::sync::watch;

use super::broker_monitor::BrokerState;

/// After how long without a record a client is probed.
const IDLE: Duration = Duration::from_secs(5);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many probes must fail in a row before the client counts as unresponsive.
const MAX_MISSED: u32 = 3;

/// The probe of one client.
pub(super) struct LivenessProbe {
    last: Instant,
    missed: u32,
}

impl LivenessProbe {
    pub(super) fn new() -> LivenessProbe {
        LivenessProbe { last: Instant::now(), missed: 0 }
    }

    /// Takes note that the client responded.
    pub(super) fn responded(&mut self) {
        *self = LivenessProbe::new();
    }

    /// Whether the client does not respond although Kafka is available. Probes an idle client, which blocks.
    pub(super) fn is_unresponsive<C: ConsumerContext>(
        &mut self,
        client: &BaseConsumer<C>,
        topic: &str,
        broker_state: &watch::Receiver<BrokerState>,
    ) -> bool {
        if self.last.elapsed() < IDLE {
            return false;
        }
        if !broker_state.borrow().is_up() || client.fetch_metadata(Some(topic), PROBE_TIMEOUT).is_ok() {
            self.responded();
            return false;
        }
        self.missed += 1;
        self.missed >= MAX_MISSED
    }
}

/// Drops a client on a thread of its own: an unresponsive client may take long to end.
pub(super) fn drop_in_background<C: ConsumerContext + 'static>(client: BaseConsumer<C>) {
    if let Err(error) = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client)) {
        tracing::debug!(%error, "a client was dropped in the foreground, for want of a thread");
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn a_client_that_does_not_answer_is_unresponsive_only_while_kafka_is_available() {
        // Nothing listens there.
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        let (up, down) = (BrokerState::up(), BrokerState::default());
        for (state, unresponsive) in [(down, false), (up, true)] {
            let (_sender, broker_state) = watch::channel(state);
            let mut liveness = LivenessProbe { last: Instant::now(), missed: MAX_MISSED - 1 };
            assert!(!liveness.is_unresponsive(&client, "topic", &broker_state), "it is not idle yet");
            liveness.last -= IDLE;
            assert_eq!(liveness.is_unresponsive(&client, "topic", &broker_state), unresponsive);
        }
    }
}
