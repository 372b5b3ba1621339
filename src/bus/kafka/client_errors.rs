//! What the Kafka clients of this process fail to do now: publish to a topic, read as a member of the group, commit, or
//! read ACKs. The last error of each activity is kept here, logged once when it begins and once when it ends, and part
//! of readiness.
//!
//! A connection that fails does not count here: the broker monitor reports Kafka as a whole. A transient error, as
//! around the restart of a broker, counts when it repeats after a while and the activity has not worked in between.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::bus::PublishError;

/// How long a transient error must repeat before it counts.
const TRANSIENT_FOR: Duration = Duration::from_secs(8);

/// After how long without a repetition an error counts as ended. The clients retry sooner than that.
const EXPIRY: Duration = Duration::from_secs(90);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    /// The producers publish to a topic.
    Publish,
    /// The worker's consumer reads as a member of a group.
    Consume,
    /// The worker's consumer commits offsets for a group.
    Commit,
    /// The ACK listener reads a topic.
    ReadAcks,
}

/// The errors of all clients of a bus. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct ClientErrors(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whether there is an error at all: `worked` is called for every record, and must not take the lock.
    any: AtomicBool,
    // std Mutex: held for a look at the map, never across .await
    failures: Mutex<Failures>,
}

/// By activity, and by its topic or group.
type Failures = BTreeMap<(Activity, String), Failure>;

/// An activity that fails, and since when.
struct Failure {
    code: Option<Code>,
    error: String,
    began: Instant,
    since: Timestamp,
    last: Instant,
    /// Whether it was logged, and is part of readiness.
    is_logged: bool,
}

impl ClientErrors {
    /// Takes note of an error.
    pub(super) fn failed(&self, activity: Activity, subject: &str, error: &KafkaError) {
        self.failed_at(activity, subject, error, Instant::now());
    }

    fn failed_at(&self, activity: Activity, subject: &str, error: &KafkaError, now: Instant) {
        tracing::debug!(%error, ?activity, subject, "an error of a Kafka client");
        let code = error.rdkafka_error_code();
        if is_reported_elsewhere(code) {
            return;
        }
        let mut failures = self.lock();
        let failure = failures.entry((activity, subject.to_owned())).or_insert_with(|| Failure {
            code,
            error: error.to_string(),
            began: now,
            since: Timestamp::now(),
            last: now,
            is_logged: false,
        });
        let is_new = !failure.is_logged || failure.code != code;
        failure.last = now;
        if is_new && (is_permanent(code) || failure.is_logged || now - failure.began >= TRANSIENT_FOR) {
            (failure.code, failure.error, failure.is_logged) = (code, error.to_string(), true);
            let line = Logged { activity, subject, failure };
            tracing::warn!(code = ?code, "{line}");
        }
        self.0.any.store(true, Ordering::Release);
    }

    /// Takes note that an activity works, which ends its error.
    pub(super) fn worked(&self, activity: Activity, subject: &str) {
        if !self.is_any() {
            return;
        }
        let mut failures = self.lock();
        if let Some(failure) = failures.remove(&(activity, subject.to_owned()))
            && failure.is_logged
        {
            tracing::info!("{} {subject} works again", activity.name());
        }
        self.0.any.store(!failures.is_empty(), Ordering::Release);
    }

    /// Whether there is an error, so that [`ClientErrors::worked`] has something to do.
    pub(super) fn is_any(&self) -> bool {
        self.0.any.load(Ordering::Acquire)
    }

    /// Kafka as a whole is not available: transient errors that were not logged yet are dropped, as the outage is their
    /// cause.
    pub(super) fn kafka_is_unavailable(&self) {
        self.lock().retain(|_, failure| failure.is_logged);
    }

    /// Whether all clients work.
    ///
    /// # Errors
    /// [`PublishError::Unavailable`] with each activity that fails, since when, and what to do.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        self.check_at(Instant::now())
    }

    fn check_at(&self, now: Instant) -> Result<(), PublishError> {
        if !self.is_any() {
            return Ok(());
        }
        let mut failures = self.lock();
        failures.retain(|(activity, subject), failure| {
            let is_expired = now.saturating_duration_since(failure.last) >= EXPIRY;
            if is_expired && failure.is_logged {
                tracing::info!("{} {subject} has not failed for a while", activity.name());
            }
            !is_expired
        });
        self.0.any.store(!failures.is_empty(), Ordering::Release);
        let logged = failures.iter().filter(|(_, failure)| failure.is_logged);
        let lines: Vec<String> = logged
            .map(|((activity, subject), failure)| {
                Logged { activity: *activity, subject, failure }.to_string()
            })
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(PublishError::Unavailable(lines.join("; "))) }
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
        let advice = failure.code.map_or(SEE_BROKER_LOGS, advice);
        write!(f, "{} {subject} fails since {}: {}; {advice}", activity.name(), failure.since, failure.error)
    }
}

const SEE_BROKER_LOGS: &str = "see the logs of the brokers";

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
        Code::PolicyViolation => "a policy of the brokers forbids it: see their logs",
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
            "this process did not poll for minutes: see whether it has enough processors and memory"
        }
        _ => SEE_BROKER_LOGS,
    }
}

/// Whether an error does not end without an operator.
fn is_permanent(code: Option<Code>) -> bool {
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

/// Whether an error is about the connection, which the broker monitor reports, or about one record.
fn is_reported_elsewhere(code: Option<Code>) -> bool {
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

    fn reported(errors: &ClientErrors, now: Instant) -> String {
        errors.check_at(now).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_permanent_error_counts_at_once_and_ends_when_the_activity_works() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        errors.failed_at(Activity::Publish, TOPIC, &error(Code::InvalidTimestamp), now);
        let text = reported(&errors, now);
        assert!(text.contains("publishing to topic orders.events fails since 2"), "{text}");
        assert!(text.contains("message.timestamp.after.max.ms"), "{text}");
        errors.worked(Activity::Publish, "orders.ack");
        assert_ne!(reported(&errors, now), "");
        errors.worked(Activity::Publish, TOPIC);
        assert_eq!((reported(&errors, now), errors.is_any()), (String::new(), false));
    }

    #[test]
    fn a_transient_error_counts_when_it_lasts() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        let fail = |after| {
            let error = error(Code::MessageTimedOut);
            errors.failed_at(Activity::Publish, TOPIC, &error, now + after);
        };
        fail(Duration::ZERO);
        fail(TRANSIENT_FOR - Duration::from_secs(1));
        assert_eq!(reported(&errors, now), "");
        errors.kafka_is_unavailable();
        fail(TRANSIENT_FOR);
        fail(TRANSIENT_FOR + Duration::from_secs(1));
        assert_eq!(reported(&errors, now), "", "an outage was in between");
        fail(2 * TRANSIENT_FOR);
        assert!(reported(&errors, now + 2 * TRANSIENT_FOR).contains("min.insync.replicas"));
        errors.kafka_is_unavailable();
        assert_ne!(reported(&errors, now + 2 * TRANSIENT_FOR), "", "it was logged before the outage");
        assert_eq!(reported(&errors, now + 2 * TRANSIENT_FOR + EXPIRY), "");
    }

    #[test]
    fn errors_of_connections_and_of_single_records_do_not_count() {
        let (errors, now) = (ClientErrors::default(), Instant::now());
        for code in [Code::AllBrokersDown, Code::BrokerTransportFailure, Code::MessageSizeTooLarge] {
            for after in [Duration::ZERO, TRANSIENT_FOR] {
                errors.failed_at(Activity::Consume, "order-workers", &error(code), now + after);
            }
        }
        assert_eq!((reported(&errors, now), errors.is_any()), (String::new(), false));
    }
}
