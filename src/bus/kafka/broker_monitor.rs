//! The link: a thread that keeps asking whether Kafka is there and whether the topics are, and makes those that
//! are not. So a process starts without a broker, finds it when it comes, and says at any time how things are.
//!
//! It is the one place that tells in the log that Kafka is away, and that it is back.

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

/// How often things are looked at while all is well.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the client may have something to say, or be asked something, before it is heeded.
const HEED_EVERY: Duration = Duration::from_millis(50);

/// How many errors of one client are heard out before it is told that Kafka is away.
const MOST_ERRORS: usize = 20;

/// How many errors of the time before are heard out when Kafka is back.
const MOST_OLD_ERRORS: usize = 1000;

/// How long a publisher waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long a process that only asks does.
const FIRST_GLANCE: Duration = Duration::from_millis(500);

/// How things are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Whether Kafka is there, or why not; `None` before the first look has ended.
    health: Option<Result<(), String>>,
    /// How many partitions the topic of the ACKs has. Known once all topics are there.
    pub(super) ack_partitions: Option<i32>,
}

impl State {
    /// That it is.
    #[cfg(test)]
    pub(super) fn up() -> State {
        State { health: Some(Ok(())), ack_partitions: Some(1) }
    }

    /// Whether Kafka is there.
    pub(super) fn is_up(&self) -> bool {
        self.health == Some(Ok(()))
    }
}

type Answer = Result<u64, PublishError>;

/// The way to the thread, which ends when this is dropped.
pub(super) struct BrokerMonitor {
    state: watch::Receiver<State>,
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
        let (sender, state) = watch::channel(State::default());
        let heard = Heard { state: sender, brokers: options.brokers.join(","), last: Arc::default(), errors };
        let client = heard.client(options)?;
        let (questions, asked) = mpsc::channel();
        let (options, component) =
            (Arc::clone(options), components.component("the thread that watches the brokers"));
        thread::Builder::new()
            .name("kafka-link".to_owned())
            .spawn(move || {
                run(client, &options, &asked);
                component.ends_in_order();
            })
            .map_err(|error| OpenError(error.to_string()))?;
        Ok(BrokerMonitor { state, questions: Mutex::new(Some(questions)) })
    }

    /// How things are, and whenever that changes.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How things are. Waits only in the first moments, while it is not known.
    pub(super) async fn health(&self) -> Result<(), PublishError> {
        if self.questions().is_none() {
            return Err(closed());
        }
        self.first_look(FIRST_GLANCE).await
    }

    async fn first_look(&self, patience: Duration) -> Result<(), PublishError> {
        let mut state = self.state.clone();
        let looked = timeout(patience, state.wait_for(|state| state.health.is_some())).await;
        let health = match looked {
            Ok(Ok(state)) => state.health.clone(),
            _ => None,
        };
        health
            .unwrap_or_else(|| Err("Kafka has not answered yet".to_owned()))
            .map_err(PublishError::Unavailable)
    }

    /// Whether records can be handed to the producer: it must not see a topic before it was made. Once they
    /// are there it may, even while Kafka is away, for it holds on to them for a while.
    pub(super) async fn topics(&self) -> Result<(), PublishError> {
        if self.state.borrow().ack_partitions.is_some() {
            return Ok(());
        }
        self.first_look(FIRST_LOOK).await
    }

    /// How many dead letters there are.
    pub(super) async fn dead_letters(&self) -> Answer {
        let (asker, answer) = oneshot::channel();
        let sent = self.questions().as_ref().is_some_and(|questions| questions.send(asker).is_ok());
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

fn run(mut client: BaseConsumer<Heard>, options: &Options, asked: &mpsc::Receiver<oneshot::Sender<Answer>>) {
    let (mut backoff, mut reported) = (pauses(), topics::Reported::default());
    let heard = client.client().context().as_ref().clone();
    loop {
        let mut pause = LOOK_EVERY;
        match topics::ensure(&client, options, &mut reported) {
            Ok(ack_partitions) => {
                if heard.is_down() {
                    // What the client has to say of the time before would be taken for news later.
                    listen(&client, MOST_OLD_ERRORS);
                }
                heard.up(ack_partitions);
                backoff.reset();
                reported.settings.run(options);
            }
            Err(reason) => {
                // Why nothing came, the client says itself, and has kept to itself while it was asked.
                listen(&client, MOST_ERRORS);
                heard.down(&reason);
                pause = backoff.pause();
                // It may have lost its brokers for good, see `liveness`; a new one begins at the beginning.
                if let Ok(new) = heard.client(options) {
                    client = new;
                }
            }
        }
        let (began, was_up) = (Instant::now(), heard.is_up());
        // A connection that breaks ends the pause; what the client has to say is heard meanwhile.
        while began.elapsed() < pause && heard.is_up() == was_up {
            let _ = client.poll(HEED_EVERY);
            match asked.try_recv() {
                Ok(asker) => {
                    let answer = topics::dead_letters(&client, options);
                    // The one that asked may have gone.
                    let _ = asker.send(answer.map_err(PublishError::Unavailable));
                }
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }
}

/// Hears what a client has to say, at most so many errors, until it is silent for a moment.
fn listen(client: &BaseConsumer<Heard>, most: usize) {
    let _ = (0..most).find(|_| client.poll(HEED_EVERY).is_none());
}

/// What the thread's clients hear, and what follows from it.
#[derive(Clone)]
struct Heard {
    state: watch::Sender<State>,
    brokers: String,
    // std Mutex: held to keep or take a text, never across .await
    last: Arc<Mutex<Option<String>>>,
    errors: ClientErrors,
}

impl Heard {
    fn client(&self, options: &Options) -> Result<BaseConsumer<Heard>, OpenError> {
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
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let up = State { health: Some(Ok(())), ack_partitions };
        if self.state.send_replace(up).health != Some(Ok(())) {
            tracing::info!(brokers = self.brokers, "connected to Kafka");
        }
    }

    fn down(&self, reason: &str) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reason = last.map_or_else(|| reason.to_owned(), |last| format!("{reason} ({last})"));
        let mut news = false;
        self.state.send_modify(|state| {
            news = !matches!(state.health, Some(Err(_)));
            state.health = Some(Err(reason.clone()));
        });
        self.errors.kafka_is_away();
        if news {
            tracing::warn!(reason, "Kafka is not available; events wait in the store until it is");
        } else {
            tracing::debug!(reason, "Kafka is still not available");
        }
    }
}

impl ClientContext for Heard {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.down(&topics::silence(&self.brokers));
        } else {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Heard {}
