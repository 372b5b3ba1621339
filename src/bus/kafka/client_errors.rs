//! What the clients of this process cannot do now: publish to a topic, read as a member of the group, commit, read
//! ACKs. The last error of each is kept here, logged once when it begins and once when it ends, and part of readiness.
//!
//! A connection that fails is not among them: the link tells of Kafka as a whole. An error that may pass by itself, as
//! those around the restart of a broker, counts when it comes again after a while and nothing has worked in between.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::bus::PublishError;

/// For how long an error that may pass has to come again.
const LASTING: Duration = Duration::from_secs(8);

/// After how long without a repetition an error counts as gone: the clients repeat what they cannot do sooner.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    /// The producers publish to a topic.
    Publish,
    /// The worker's consumer reads as a member of a group.
    Consume,
    /// The worker's consumer commits offsets for a group.
    Commit,
    /// The reader of ACKs reads a topic.
    ReadAcks,
}

/// The errors of all clients of a bus. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ClientErrors(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whether there is an error at all: what works is said with every record.
    any: AtomicBool,
    // std Mutex: held for a look at the map, never across .await
    failures: Mutex<Failures>,
}

/// By activity, and by its topic or group.
type Failures = BTreeMap<(Activity, String), Failure>;

/// What does not work, and since when.
struct Failure {
    code: Option<Code>,
    error: String,
    began: Instant,
    since: Timestamp,
    last: Instant,
    /// Whether it was logged, and is part of readiness.
    is_told: bool,
}

impl ClientErrors {
    /// Takes note of an error.
    pub(super) fn failed(&self, activity: Activity, subject: &str, error: &KafkaError) {
        self.failed_at(activity, subject, error, Instant::now());
    }

    fn failed_at(&self, activity: Activity, subject: &str, error: &KafkaError, now: Instant) {
        tracing::debug!(%error, ?activity, subject, "a client of Kafka");
        let code = error.rdkafka_error_code();
        if is_for_others(code) {
            return;
        }
        let mut failures = self.lock();
        let failure = failures.entry((activity, subject.to_owned())).or_insert_with(|| Failure {
            code,
            error: error.to_string(),
            began: now,
            since: Timestamp::now(),
            last: now,
            is_told: false,
        });
        let is_news = !failure.is_told || failure.code != code;
        failure.last = now;
        if is_news && (is_definite(code) || failure.is_told || now - failure.began >= LASTING) {
            (failure.code, failure.error, failure.is_told) = (code, error.to_string(), true);
            let told = Logged { activity, subject, failure };
            tracing::warn!(code = ?code, "{told}");
        }
        self.0.any.store(true, Ordering::Release);
    }

    /// Takes note that something works, which ends its error.
    pub(super) fn worked(&self, activity: Activity, subject: &str) {
        if !self.is_any() {
            return;
        }
        let mut failures = self.lock();
        if let Some(failure) = failures.remove(&(activity, subject.to_owned()))
            && failure.is_told
        {
            tracing::info!("{} {subject} works again", activity.name());
        }
        self.0.any.store(!failures.is_empty(), Ordering::Release);
    }

    /// Whether there is an error, so that [`ClientErrors::worked`] has something to do.
    pub(super) fn is_any(&self) -> bool {
        self.0.any.load(Ordering::Acquire)
    }

    /// Kafka as a whole is away: what failed for that reason begins anew when it is back.
    pub(super) fn kafka_is_away(&self) {
        self.lock().retain(|_, failure| failure.is_told);
    }

    /// Whether all clients work.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] with what does not, since when, and what to do.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> Result<(), PublishError> {
        if !self.is_any() {
            return Ok(());
        }
        let mut failures = self.lock();
        failures.retain(|(activity, subject), failure| {
            let is_gone = now.saturating_duration_since(failure.last) >= FORGOTTEN;
            if is_gone && failure.is_told {
                tracing::info!("{} {subject} has not failed for a while", activity.name());
            }
            !is_gone
        });
        self.0.any.store(!failures.is_empty(), Ordering::Release);
        let told =
            failures.iter().filter(|(_, failure)| failure.is_told).map(|((activity, subject), failure)| {
                Logged { activity: *activity, subject, failure }.to_string()
            });
        let told: Vec<String> = told.collect();
        if told.is_empty() { Ok(()) } else { Err(PublishError::Unavailable(told.join("; "))) }
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activity {
    fn name(self) -> &'static str {
        match self {
            Activity::Publish => "publishing to topic",
            Activity::Consume => "reading as a worker of group",
            Activity::Commit => "committing offsets of group",
            Activity::ReadAcks => "reading ACKs from topic",
        }
    }
}

/// A failure as an operator reads it.
struct Logged<'a> {
    activity: Activity,
    subject: &'a str,
    failure: &'a Failure,
}

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Logged { activity, subject, failure } = self;
        let advice = failure.code.map_or(ASK_THE_BROKERS, advice);
        write!(f, "{} {subject} fails since {}: {}; {advice}", activity.name(), failure.since, failure.error)
    }
}

const ASK_THE_BROKERS: &str = "look into the log of the brokers";

/// What an operator can do.
fn advice(code: Code) -> &'static str {
    match code {
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => "give the login of this process the ACL that is missing",
        Code::InconsistentGroupProtocol => {
            "another member of the group uses another assignment strategy than cooperative-sticky: stop it, or set \
             WORKER_GROUP to a group of its own"
        }
        Code::InvalidTimestamp => {
            "the clocks of this machine and of the brokers differ by more than message.timestamp.after.max.ms and \
             message.timestamp.before.max.ms of the topic allow: set the clocks, or change the topic"
        }
        Code::GroupMaxSizeReached => "raise group.max.size of the brokers, or run fewer workers",
        Code::InvalidSessionTimeout => {
            "the brokers must allow a session of 10 s: change group.min.session.timeout.ms or \
             group.max.session.timeout.ms"
        }
        Code::PolicyViolation => "a policy of the brokers forbids it: look into their log",
        Code::MessageTimedOut | Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "the topic takes no records: see whether its partitions have a leader, and as many replicas in sync as its \
             min.insync.replicas demands"
        }
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId => {
            "the topic is missing or was made again: create it, or restart this process to have it made"
        }
        Code::PollExceeded => {
            "this process stood still for minutes: see whether it has enough processors and memory"
        }
        _ => ASK_THE_BROKERS,
    }
}

/// Whether an error does not pass by itself.
fn is_definite(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InconsistentGroupProtocol
                | Code::InvalidTimestamp
                | Code::GroupMaxSizeReached
                | Code::InvalidSessionTimeout
                | Code::PolicyViolation
        )
    )
}

/// Whether an error is about the connection, which the link tells of, or about one record.
fn is_for_others(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::SSL
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::MessageSizeTooLarge
                | Code::InvalidRecord
                | Code::InvalidMessage
                | Code::NoOffset
                | Code::PartitionEOF
                | Code::PurgeQueue
                | Code::PurgeInflight
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "orders.events";

    fn error(code: Code) -> KafkaError {
        KafkaError::MessageProduction(code)
    }

    fn told(errors: &ClientErrors, now: Instant) -> String {
        errors.check_at(now).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_error_that_does_not_pass_counts_at_once_and_ends_when_it_works() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        errors.failed_at(Activity::Publish, TOPIC, &error(Code::InvalidTimestamp), now);
        let text = told(&errors, now);
        assert!(text.contains("publishing to topic orders.events fails since 2"), "{text}");
        assert!(text.contains("message.timestamp.after.max.ms"), "{text}");
        errors.worked(Activity::Publish, "orders.ack");
        assert_ne!(told(&errors, now), "");
        errors.worked(Activity::Publish, TOPIC);
        assert_eq!((told(&errors, now), errors.is_any()), (String::new(), false));
    }

    #[test]
    fn an_error_that_may_pass_counts_when_it_lasts() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        let fail = |after| {
            let error = error(Code::MessageTimedOut);
            errors.failed_at(Activity::Publish, TOPIC, &error, now + after);
        };
        fail(Duration::ZERO);
        fail(LASTING - Duration::from_secs(1));
        assert_eq!(told(&errors, now), "");
        errors.kafka_is_away();
        fail(LASTING);
        fail(LASTING + Duration::from_secs(1));
        assert_eq!(told(&errors, now), "", "an outage was in between");
        fail(2 * LASTING);
        assert!(told(&errors, now + 2 * LASTING).contains("min.insync.replicas"));
        errors.kafka_is_away();
        assert_ne!(told(&errors, now + 2 * LASTING), "", "it was told before the outage");
        assert_eq!(told(&errors, now + 2 * LASTING + FORGOTTEN), "");
    }

    #[test]
    fn connections_and_records_are_not_told_here() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        for code in [Code::AllBrokersDown, Code::BrokerTransportFailure, Code::MessageSizeTooLarge] {
            for after in [Duration::ZERO, LASTING] {
                errors.failed_at(Activity::Consume, "order-workers", &error(code), now + after);
            }
        }
        assert_eq!((told(&errors, now), errors.is_any()), (String::new(), false));
    }
}
