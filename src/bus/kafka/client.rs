//! How to reach Kafka: the options of the bus, and the configuration that every client of the process begins with.
//! Nothing here connects.
//!
//! The lines of librdkafka's log go through [`log`]. Each of its clients logs repeatedly for each broker that it cannot
//! connect; the broker monitor logs that once, so here it is for debugging alone.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::backoff::Backoff;
use crate::bus::PublishError;
use crate::config::{AckRead, Compression, KafkaSecurity, SaslMechanism, Settings};
use crate::order::WRITTEN_OUT;

/// How long a broker may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// The first pause before a retry, and the longest one.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// The pauses between retries.
pub(super) const fn pauses() -> Backoff {
    Backoff::new(PAUSES[0], PAUSES[1])
}

/// Why admin clients are not used with an OAUTHBEARER login: a client takes its token when it is polled, and an admin
/// client is not polled.
pub(super) const NO_TOKEN: &str = "that requires a login other than OAUTHBEARER";

/// The most bytes that a record has besides its payload: other fields, key, headers.
const RECORD_OVERHEAD: usize = 64 * 1024;

/// The largest `message.max.bytes` that librdkafka allows.
const LARGEST_MESSAGE: usize = 1_000_000_000;

/// How long a client is polled to take its token.
const TOKEN_POLL: Duration = Duration::from_millis(50);

/// librdkafka's facilities of log lines about a connection that fails, times out or is closed.
const CONNECTION_FACILITIES: [&str; 5] = ["FAIL", "ERROR", "REQTMOUT", "TIMEOUT", "CONNECT"];

/// Gives a client context the log of this folder, and the token of an OAUTHBEARER login.
macro_rules! logs {
    () => {
        const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

        fn generate_oauth_token(
            &self,
            file: Option<&str>,
        ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
            $crate::bus::kafka::oauth::token(file)
        }

        fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
            $crate::bus::kafka::client::log(level, facility, line);
        }
    };
}

pub(super) use logs;

/// Where Kafka is, and what this process does there.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bootstrap brokers, as `host:port`.
    pub brokers: Vec<String>,
    /// The name of this process in the logs and quotas of the brokers.
    pub client_id: String,
    /// The rack of this process, for reads from the nearest replica; empty: none.
    pub rack: String,
    /// The consumer group that the workers share.
    pub group: String,
    /// The name of the worker as a static member of that group; empty: it is not one.
    pub group_instance: String,
    /// The topic of the events; the topic of the dead letters has the same name with `.dlq`.
    pub events_topic: String,
    /// The topic of the ACKs.
    pub ack_topic: String,
    /// Whether missing topics are created; a process that only reads creates none.
    pub make_topics: bool,
    /// How many partitions the topic of the events gets when it is created.
    pub events_partitions: u32,
    /// How many partitions the topic of the ACKs gets when it is created.
    pub ack_partitions: u32,
    /// How many replicas a topic gets when it is created; 0: as many as there are brokers, at most 3.
    pub replication: u8,
    /// Which ACKs this process reads, where it waits for any.
    pub ack_read: AckRead,
    /// The largest body of a request, in bytes; an event can be more than twice as large.
    pub body_limit: usize,
    /// How records are compressed.
    pub compression: Compression,
    /// How the connection is secured.
    pub security: Security,
}

/// How the connection to the brokers is secured.
#[derive(Debug, Clone)]
pub struct Security {
    /// Encrypted or not, with a login or not.
    pub protocol: KafkaSecurity,
    /// How the login is done.
    pub mechanism: SaslMechanism,
    /// The name of the login.
    pub username: String,
    /// The password of the login.
    pub password: Option<SecretString>,
    /// The file of the trusted certificates; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate that authenticates this client to the brokers; `None`: none.
    pub client_certificate: Option<ClientCertificate>,
    /// The file of the token of an OAUTHBEARER login.
    pub token_file: Option<PathBuf>,
}

/// A client's certificate.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The file of the certificate.
    pub file: PathBuf,
    /// The file of its private key.
    pub key_file: PathBuf,
    /// The password of the key, where it is encrypted.
    pub key_password: Option<SecretString>,
}

impl Security {
    /// Whether the login uses a token.
    pub(super) fn has_token(&self) -> bool {
        self.protocol.has_login() && self.mechanism == SaslMechanism::OAuthBearer
    }
}

/// Why the bus cannot be opened: a Kafka client cannot be created with its options. An unavailable broker is not a
/// reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a Kafka client cannot be created with these settings: {0}")]
pub struct OpenError(pub(super) String);

impl Options {
    /// The options that the settings name, for a process of that role.
    #[must_use]
    pub fn of(settings: &Settings, role: &str, make_topics: bool) -> Options {
        let certificate = settings.kafka_client_cert_file.clone().zip(settings.kafka_client_key_file.clone());
        Options {
            brokers: settings.kafka_brokers.clone(),
            client_id: format!("orderstream-{role}"),
            rack: settings.kafka_client_rack.clone(),
            group: settings.worker_group.clone(),
            group_instance: settings.kafka_group_instance_id.clone(),
            events_topic: settings.orders_events_topic.clone(),
            ack_topic: settings.orders_ack_topic.clone(),
            make_topics,
            events_partitions: settings.orders_events_partitions.get(),
            ack_partitions: settings.orders_ack_partitions.get(),
            replication: settings.kafka_replication,
            ack_read: settings.ack_read,
            body_limit: settings.http_body_limit,
            compression: settings.kafka_compression,
            security: Security {
                protocol: settings.kafka_security_protocol,
                mechanism: settings.kafka_sasl_mechanism,
                username: settings.kafka_sasl_username.clone(),
                password: settings.kafka_sasl_password.clone(),
                ca_file: settings.kafka_ca_file.clone(),
                client_certificate: certificate.map(|(file, key_file)| {
                    let key_password = settings.kafka_client_key_password.clone();
                    ClientCertificate { file, key_file, key_password }
                }),
                token_file: settings.kafka_oauth_token_file.clone(),
            },
        }
    }

    /// The topic of the dead letters.
    pub(super) fn dead_letter_topic(&self) -> String {
        format!("{}.dlq", self.events_topic)
    }

    /// The largest event in bytes. An event repeats the `id` of its payload, which may be nearly the whole payload. A
    /// payload that Postgres has written has a space behind each `,` and `:`, which adds at most half of the payload
    /// without the `id`, and numbers without exponents.
    pub(super) fn largest_event(&self) -> usize {
        let payload_and_id = self.body_limit.saturating_mul(2).saturating_add(WRITTEN_OUT);
        payload_and_id.saturating_add(RECORD_OVERHEAD).min(LARGEST_MESSAGE)
    }

    /// The largest dead letter in bytes: the largest event, with the headers about its source.
    pub(super) fn largest_record(&self) -> usize {
        self.largest_event().saturating_add(RECORD_OVERHEAD).min(LARGEST_MESSAGE)
    }

    /// The configuration that every client begins with.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", &self.client_id)
            .set("client.rack", &self.rack)
            .set("security.protocol", self.security.protocol.as_str())
            .set("socket.keepalive.enable", "true")
            .set("socket.connection.setup.timeout.ms", "10000")
            // A client reconnects within two seconds, even to a broker that was away for an hour.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            // A client notices added partitions, and topics that were made again, within that time.
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set_log_level(RDKafkaLogLevel::Info);
        if let Some(file) = &self.security.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(ClientCertificate { file, key_file, key_password }) = &self.security.client_certificate {
            config
                .set("ssl.certificate.location", file.to_string_lossy())
                .set("ssl.key.location", key_file.to_string_lossy());
            if let Some(password) = key_password {
                config.set("ssl.key.password", password.expose_secret());
            }
        }
        if self.security.has_token() {
            // librdkafka passes the file's name to the function that reads the token.
            let file = self.security.token_file.as_ref().map(|file| file.to_string_lossy());
            config
                .set("sasl.mechanism", self.security.mechanism.as_str())
                .set("sasl.oauthbearer.config", file.unwrap_or_default());
        } else if self.security.protocol.has_login() {
            let password = self.security.password.as_ref().map_or("", |password| password.expose_secret());
            config
                .set("sasl.mechanism", self.security.mechanism.as_str())
                .set("sasl.username", &self.security.username)
                .set("sasl.password", password);
        }
        config
    }
}

/// The context of a client that only reads metadata, offsets or settings.
pub(super) struct QueryContext;

impl ClientContext for QueryContext {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "an error of a query connection");
    }
}

impl ConsumerContext for QueryContext {}

/// Polls a client whose login needs a token: a client takes its token only when it is polled.
pub(super) fn log_in<C: ConsumerContext>(client: &BaseConsumer<C>, options: &Options) {
    if options.security.has_token() {
        let _ = client.poll(TOKEN_POLL);
    }
}

/// The error of a client that could not be created.
pub(super) fn not_made(error: &KafkaError) -> OpenError {
    OpenError(match error {
        KafkaError::ClientConfig(_, why, key, _) => format!("{key}: {why}"),
        KafkaError::ClientCreation(why) => why.clone(),
        other => other.to_string(),
    })
}

/// What an error of a publish means: whether the record is at fault, or the broker is not available.
pub(super) fn refusal(error: &KafkaError) -> PublishError {
    let text = |code: RDKafkaErrorCode| code.to_string();
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            PublishError::Refused("it is larger than the topic allows".to_owned())
        }
        Some(code @ RDKafkaErrorCode::InvalidRecord) => PublishError::Refused(text(code)),
        Some(RDKafkaErrorCode::MessageTimedOut) => {
            PublishError::Unavailable("no broker confirmed it in time".to_owned())
        }
        Some(code) => PublishError::Unavailable(text(code)),
        None => PublishError::Unavailable(error.to_string()),
    }
}

/// Logs a line of librdkafka.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    const TARGET: &str = "orderstream::bus::kafka";
    match level {
        _ if CONNECTION_FACILITIES.contains(&facility) => tracing::debug!(target: TARGET, facility, "{line}"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: TARGET, facility, "{line}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: TARGET, facility, "{line}"),
        RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Emerg => tracing::error!(target: TARGET, facility, "{line}"),
    }
}
