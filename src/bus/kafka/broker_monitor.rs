//! The broker monitor: a thread that checks regularly whether Kafka and the topics are available, and makes missing
//! topics. So a process starts without a broker, and connects when one is available.
//!
//! Only this file logs that Kafka is not available, and that it is again; other clients log their connection errors for
//! debugging alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::client::{OpenError, Options, log_in, logs, not_made, pauses};
use super::client_errors::ClientErrors;
use super::topics;
use crate::bus::PublishError;
use crate::shutdown::Components;

/// How often Kafka is checked while it is available.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How often the thread polls its client for errors, and its channel for questions.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The most errors of one client that are read before Kafka counts as not available.
const MAX_ERRORS: usize = 20;

/// The most errors of an outage that are read when Kafka is available again.
const MAX_OLD_ERRORS: usize = 1000;

/// How long a publisher waits for the first check.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a question about the health waits for the first check.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(500);

/// What the monitor knows of Kafka.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BrokerState {
    /// Whether Kafka is available, or why not; `None` before the first check has ended.
    health: Option<Result<(), String>>,
    /// How many partitions the topic of the ACKs has. Known once all topics exist.
    pub(super) ack_partitions: Option<i32>,
}

impl BrokerState {
    /// Kafka is available.
    #[cfg(test)]
    pub(super) fn up() -> BrokerState {
        BrokerState { health: Some(Ok(())), ack_partitions: Some(1) }
    }

    /// Whether Kafka is available.
    pub(super) fn is_up(&self) -> bool {
        self.health == Some(Ok(()))
    }
}

type Answer = Result<u64, PublishError>;

/// The handle of the thread, which ends when this is dropped.
pub(super) struct BrokerMonitor {
    state: watch::Receiver<BrokerState>,
    // std Mutex: held to send, never across .await
    questions: Mutex<Option<mpsc::Sender<oneshot::Sender<Answer>>>>,
}

impl BrokerMonitor {
    /// Starts the thread.
    pub(super) fn open(
        options: &Arc<Options>,
        errors: ClientErrors,
        components: &Components,
    ) -> Result<BrokerMonitor, OpenError> {
        let (sender, state) = watch::channel(BrokerState::default());
        let brokers = options.brokers.join(",");
        let context = MonitorContext { state: sender, brokers, last_error: Arc::default(), errors };
        let client = context.client(options)?;
        let (questions, asked) = mpsc::channel();
        let (options, component) = (Arc::clone(options), components.component("the broker monitor"));
        thread::Builder::new()
            .name("kafka-monitor".to_owned())
            .spawn(move || {
                run(client, &options, &asked);
                component.ends_in_order();
            })
            .map_err(|error| OpenError(error.to_string()))?;
        Ok(BrokerMonitor { state, questions: Mutex::new(Some(questions)) })
    }

    /// The state, with notice of its changes.
    pub(super) fn watch(&self) -> watch::Receiver<BrokerState> {
        self.state.clone()
    }

    /// Whether Kafka is available. Waits only for the first check after the start.
    pub(super) async fn health(&self) -> Result<(), PublishError> {
        if self.questions().is_none() {
            return Err(closed());
        }
        self.first_check(HEALTH_TIMEOUT).await
    }

    async fn first_check(&self, limit: Duration) -> Result<(), PublishError> {
        let mut state = self.state.clone();
        let checked = timeout(limit, state.wait_for(|state| state.health.is_some())).await;
        let health = match checked {
            Ok(Ok(state)) => state.health.clone(),
            _ => None,
        };
        health
            .unwrap_or_else(|| Err("Kafka has not answered yet".to_owned()))
            .map_err(PublishError::Unavailable)
    }

    /// Whether records can be handed to the producer, which must not see a topic before it exists. Once the topics
    /// exist the producer gets records even while Kafka is not available, because it keeps them for a while.
    pub(super) async fn topics(&self) -> Result<(), PublishError> {
        if self.state.borrow().ack_partitions.is_some() {
            return Ok(());
        }
        self.first_check(PUBLISH_TIMEOUT).await
    }

    /// How many dead letters there are.
    pub(super) async fn dead_letters(&self) -> Answer {
        let (sender, answer) = oneshot::channel();
        let sent = self.questions().as_ref().is_some_and(|questions| questions.send(sender).is_ok());
        if sent { answer.await.unwrap_or_else(|_| Err(closed())) } else { Err(closed()) }
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.questions().take();
    }

    fn questions(&self) -> MutexGuard<'_, Option<mpsc::Sender<oneshot::Sender<Answer>>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> PublishError {
    PublishError::Unavailable("the bus is closed".to_owned())
}

fn run(
    mut client: BaseConsumer<MonitorContext>,
    options: &Options,
    questions: &mpsc::Receiver<oneshot::Sender<Answer>>,
) {
    let (mut backoff, mut reported) = (pauses(), topics::Reported::default());
    let context = client.client().context().as_ref().clone();
    loop {
        let mut pause = CHECK_EVERY;
        match topics::ensure(&client, options, &mut reported) {
            Ok(ack_partitions) => {
                if !context.is_up() {
                    // Later, errors of the outage that are still queued would look like new ones. A first check does
                    // not wait for them.
                    let wait = if context.is_down() { POLL_EVERY } else { Duration::ZERO };
                    drain_errors(&client, MAX_OLD_ERRORS, wait);
                }
                context.up(ack_partitions);
                backoff.reset();
                reported.settings.run(options);
            }
            Err(reason) => {
                // The client queues the causes of the failure, which the context keeps as the last error.
                drain_errors(&client, MAX_ERRORS, POLL_EVERY);
                context.down(&reason);
                pause = backoff.pause();
                // The client may have lost its brokers for good, see `liveness`; a new one begins with the settings.
                if let Ok(new) = context.client(options) {
                    client = new;
                }
            }
        }
        let (began, was_up) = (Instant::now(), context.is_up());
        // A poll takes errors of the client, and a connection that breaks ends the pause.
        while began.elapsed() < pause && context.is_up() == was_up {
            let _ = client.poll(POLL_EVERY);
            match questions.try_recv() {
                Ok(sender) => {
                    let answer = topics::dead_letters(&client, options);
                    // The caller may have been cancelled.
                    let _ = sender.send(answer.map_err(PublishError::Unavailable));
                }
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Reads the queued errors of a client, at most so many, and waits so long for each.
fn drain_errors(client: &BaseConsumer<MonitorContext>, limit: usize, wait: Duration) {
    let _ = (0..limit).find(|_| client.poll(wait).is_none());
}

/// The context of the thread's clients: takes their errors, and publishes the state.
#[derive(Clone)]
struct MonitorContext {
    state: watch::Sender<BrokerState>,
    brokers: String,
    // std Mutex: held to keep or take a text, never across .await
    last_error: Arc<Mutex<Option<String>>>,
    errors: ClientErrors,
}

impl MonitorContext {
    fn client(&self, options: &Options) -> Result<BaseConsumer<MonitorContext>, OpenError> {
        let client = options.client().create_with_context(self.clone()).map_err(|error| not_made(&error))?;
        log_in(&client, options);
        Ok(client)
    }

    fn is_up(&self) -> bool {
        self.state.borrow().is_up()
    }

    fn is_down(&self) -> bool {
        matches!(self.state.borrow().health, Some(Err(_)))
    }

    fn up(&self, ack_partitions: Option<i32>) {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        let up = BrokerState { health: Some(Ok(())), ack_partitions };
        if self.state.send_replace(up).health != Some(Ok(())) {
            tracing::info!(brokers = self.brokers, "connected to Kafka");
        }
    }

    fn down(&self, reason: &str) {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = last.map_or_else(|| reason.to_owned(), |last| format!("{reason} ({last})"));
        let mut changed = false;
        self.state.send_modify(|state| {
            changed = !matches!(state.health, Some(Err(_)));
            state.health = Some(Err(reason.clone()));
        });
        self.errors.kafka_is_unavailable();
        if changed {
            tracing::warn!(reason, "Kafka is not available; events wait in the store until it is");
        } else {
            tracing::debug!(reason, "Kafka is still not available");
        }
    }
}

impl ClientContext for MonitorContext {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.down(&topics::no_answer(&self.brokers));
        } else {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for MonitorContext {}
