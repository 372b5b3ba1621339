//! The table of settings: a row makes a field, a flag, a variable, a key of the file and a line of `orderstream
//! config`. A test asks for the default of each in `orderstream.default.toml`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::kafka::{AckRead, Compression, KafkaSecurity, SaslMechanism};
use super::keys::{self, Key};
use super::logging::LogFormat;
use super::postgres::ReadFrom;
use super::value::{self, Percent};

// This is the whole table: a row makes a field, a flag, a variable, a key of the file and a line of
// `orderstream config`. Its type says how it is read, its doc comment is the flag's help. A test asks for its
// default in `orderstream.default.toml`.
keys::settings! {
    /// Postgres, as a postgres:// URL; unset: the embedded store.
    postgres_dsn: Option<SecretString>,
    /// Connections to Postgres that carry commands, and as many again for what the worker did.
    postgres_write_connections: NonZeroU32,
    /// Connections to Postgres that reads share.
    postgres_read_connections: NonZeroU32,
    /// How long connecting to Postgres may take.
    postgres_connect_timeout: Duration,
    /// How long a statement may take before Postgres ends it.
    postgres_statement_timeout: Duration,
    /// Which server reads go to: the primary, or the first that can be reached.
    postgres_read_from: ReadFrom,
    /// Directory of the embedded store's files.
    data_dir: PathBuf,
    /// Redis cache, as host:port or a redis:// or rediss:// URL; unset: no cache.
    redis_addr: Option<SecretString>,
    /// What all keys in Redis begin with.
    cache_key_prefix: String,
    /// How long a copy of an order may stay in the cache.
    cache_ttl: Duration,
    /// How long a request waits for the cache before it does without.
    cache_timeout: Duration,
    /// Kafka brokers, host:port with commas between; unset: the bus inside this process.
    kafka_brokers: Vec<String>,
    /// How the connection to Kafka is secured.
    kafka_security_protocol: KafkaSecurity,
    /// How the login to Kafka is done, where the protocol has one.
    kafka_sasl_mechanism: SaslMechanism,
    /// Name of the login to Kafka.
    kafka_sasl_username: String,
    /// Password of the login to Kafka.
    kafka_sasl_password: Option<SecretString>,
    /// File of the certificates that are trusted for Kafka; empty: those of the system.
    kafka_ca_file: Option<PathBuf>,
    /// File of the client's certificate for Kafka, in PEM; empty: none.
    kafka_client_cert_file: Option<PathBuf>,
    /// File of the private key of that certificate, in PEM.
    kafka_client_key_file: Option<PathBuf>,
    /// Password of the private key, where it is encrypted.
    kafka_client_key_password: Option<SecretString>,
    /// File of the token for a login to Kafka with OAUTHBEARER, a JWT.
    kafka_oauth_token_file: Option<PathBuf>,
    /// Rack or zone of this process, so that it reads from brokers near it; empty: from the leaders.
    kafka_client_rack: String,
    /// Name of a worker as a static member of its group, which each process needs for itself; empty: no static member.
    kafka_group_instance_id: String,
    /// How records are compressed on their way to Kafka.
    kafka_compression: Compression,
    /// Copies of a topic that is made; 0: as many as there are brokers, at most 3.
    kafka_replication: u8,
    /// Consumer group that the workers share.
    worker_group: String,
    /// Topic of the orders' events; its dead letters go to the same name with .dlq.
    orders_events_topic: String,
    /// Partitions of the topic of events, where it is made; no more workers than that share the work.
    orders_events_partitions: NonZeroU32,
    /// Topic of the worker's ACKs.
    orders_ack_topic: String,
    /// Partitions of the topic of ACKs, where it is made.
    orders_ack_partitions: NonZeroU32,
    /// Which ACKs are read: those of the own partition, or all.
    ack_read: AckRead,
    /// Whether a write is answered only when the worker has processed it.
    ack_wait: bool,
    /// How long a write waits for the worker before it is answered 202.
    ack_wait_timeout: Duration,
    /// How long one call of the processor may take.
    processor_timeout: Duration,
    /// For how long an order is tried again that the processor fails for a passing reason.
    processor_retry_for: Duration,
    /// How long an order waits without progress until its event is published to Kafka again; 0s: it never is.
    republish_after: Duration,
    /// Whether the history of orders is kept.
    history: bool,
    /// How long a step of the history is kept.
    history_retention: Duration,
    /// How many streams of changes may be open at once.
    max_streams: NonZeroU32,
    /// How much of the streams one peer may have open, in percent.
    peer_stream_share: Percent,
    /// IP address to listen on; 0.0.0.0 is every interface.
    bind: IpAddr,
    /// Names that HTTP answers to besides IP addresses and localhost, with commas between; *.name: those below it.
    allowed_hosts: Vec<String>,
    /// Origins whose web pages may use HTTP, each as scheme://host:port, with commas between; *: every one.
    cors_allowed_origins: Vec<String>,
    /// TCP port of HTTP; 0 takes any free one.
    api_port: u16,
    /// TCP port of gRPC; 0 takes any free one.
    grpc_port: u16,
    /// TCP port where a worker says over HTTP how it is; 0 takes any free one.
    worker_health_port: u16,
    /// How many connections each port may have open at once.
    max_connections: NonZeroU32,
    /// How much of the connections one peer may have open, in percent.
    peer_connection_share: Percent,
    /// How many calls of gRPC may be under way at once, over all connections.
    max_grpc_calls: NonZeroU32,
    /// How much of the calls one peer may have under way, in percent.
    peer_grpc_call_share: Percent,
    /// Whether gRPC tells clients about its methods.
    grpc_reflection: bool,
    /// Proxies whose word about their clients counts: addresses and networks, with commas between.
    trusted_proxies: Vec<IpNet>,
    /// How long a client may take to send a request's head.
    http_header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    http_idle_timeout: Duration,
    /// How long a client may take to send a request's body.
    http_body_timeout: Duration,
    /// How long a client may pause while it sends a body.
    http_body_idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    http_write_timeout: Duration,
    /// Largest body in bytes; beyond it 413.
    http_body_limit: usize,
    /// Bytes that the requests in flight may hold, each its head, body, answer and 8 KiB; beyond it 503.
    http_memory_budget: usize,
    /// How much of that budget, and of the queue of commands, one peer may hold, in percent.
    peer_memory_share: Percent,
    /// How long to go on serving after readiness turned 503.
    shutdown_delay: Duration,
    /// How long requests, their events and the worker get to finish, each.
    shutdown_timeout: Duration,
    /// What is logged: a level, or a tracing filter.
    log_level: String,
    /// How it is logged.
    log_format: LogFormat,
}
