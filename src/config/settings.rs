//! The table of settings: a row makes a field, a flag, a variable, a key of the file and a line of `orderstream
//! config`. A row's type defines how its value is read, and its doc comment is the flag's help. A test requires the
//! default of each in `orderstream.default.toml`.

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

keys::settings! {
    /// Postgres, as a postgres:// URL; unset: the embedded store.
    postgres_dsn: Option<SecretString>,
    /// Connections to Postgres for commands, and as many again for the worker's completions.
    postgres_write_connections: NonZeroU32,
    /// Connections to Postgres for reads.
    postgres_read_connections: NonZeroU32,
    /// How long connecting to Postgres may take.
    postgres_connect_timeout: Duration,
    /// How long a statement may take before Postgres ends it.
    postgres_statement_timeout: Duration,
    /// Server for reads: the primary, or the first that can be reached.
    postgres_read_from: ReadFrom,
    /// Directory of the embedded store's files.
    data_dir: PathBuf,
    /// Redis cache, as host:port or a redis:// or rediss:// URL; unset: no cache.
    redis_addr: Option<SecretString>,
    /// Prefix of all keys in Redis.
    cache_key_prefix: String,
    /// How long a copy of an order may stay in the cache.
    cache_ttl: Duration,
    /// How long a request waits for the cache before it reads the store.
    cache_timeout: Duration,
    /// Kafka brokers as host:port, separated by commas; unset: the in-process bus.
    kafka_brokers: Vec<String>,
    /// Security of the connection to Kafka.
    kafka_security_protocol: KafkaSecurity,
    /// Mechanism of the login to Kafka, where the protocol has one.
    kafka_sasl_mechanism: SaslMechanism,
    /// User name of the login to Kafka.
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
    /// Unique name that makes a worker a static member of its group; empty: not a static member.
    kafka_group_instance_id: String,
    /// Compression of records in Kafka.
    kafka_compression: Compression,
    /// Replicas of a topic that is created; 0: as many as there are brokers, at most 3.
    kafka_replication: u8,
    /// Consumer group of the workers.
    worker_group: String,
    /// Topic of the orders' events; dead letters go to the same name with .dlq.
    orders_events_topic: String,
    /// Partitions of the events' topic when it is created; at most that many workers share the work.
    orders_events_partitions: NonZeroU32,
    /// Topic of the workers' ACKs.
    orders_ack_topic: String,
    /// Partitions of the ACKs' topic when it is created.
    orders_ack_partitions: NonZeroU32,
    /// Partitions of ACKs that a process reads: its own, or all.
    ack_read: AckRead,
    /// Whether a write is answered only when the worker has processed it.
    ack_wait: bool,
    /// How long a write waits for the worker before it is answered 202.
    ack_wait_timeout: Duration,
    /// How long one call of the processor may take.
    processor_timeout: Duration,
    /// How long an order is retried whose processing fails for a temporary reason.
    processor_retry_for: Duration,
    /// How long an order waits without progress until its event is published to Kafka again; 0s: never.
    republish_after: Duration,
    /// Whether the history of orders is kept.
    history: bool,
    /// How long a history event is kept.
    history_retention: Duration,
    /// The most streams of changes that are open at once.
    max_streams: NonZeroU32,
    /// Share of the streams that one peer may have open, in percent.
    peer_stream_share: Percent,
    /// IP address to listen on; 0.0.0.0 is every interface.
    bind: IpAddr,
    /// Names that HTTP answers to besides IP addresses and localhost, separated by commas; *.name: those below it.
    allowed_hosts: Vec<String>,
    /// Origins whose web pages may use HTTP, each as scheme://host:port, separated by commas; *: all.
    cors_allowed_origins: Vec<String>,
    /// TCP port of HTTP; 0: any free port.
    api_port: u16,
    /// TCP port of gRPC; 0: any free port.
    grpc_port: u16,
    /// TCP port where a worker serves its health over HTTP; 0: any free port.
    worker_health_port: u16,
    /// The most connections that each port has open at once.
    max_connections: NonZeroU32,
    /// Share of the connections that one peer may have open, in percent.
    peer_connection_share: Percent,
    /// The most gRPC calls in flight, over all connections.
    max_grpc_calls: NonZeroU32,
    /// Share of the calls that one peer may have in flight, in percent.
    peer_grpc_call_share: Percent,
    /// Whether gRPC serves reflection.
    grpc_reflection: bool,
    /// Proxies whose forwarding headers count: addresses and networks, separated by commas.
    trusted_proxies: Vec<IpNet>,
    /// How long a client may take to send a request's head.
    http_header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    http_idle_timeout: Duration,
    /// How long a client may take to send a request's body.
    http_body_timeout: Duration,
    /// How long a client may pause while it sends a body.
    http_body_idle_timeout: Duration,
    /// How long a client may read nothing of its response.
    http_write_timeout: Duration,
    /// Largest body in bytes; a larger one gets 413.
    http_body_limit: usize,
    /// Bytes that requests in flight may hold, each its head, body, response and 8 KiB; beyond it 503.
    http_memory_budget: usize,
    /// Share of that budget, and of the queue of commands, that one peer may hold, in percent.
    peer_memory_share: Percent,
    /// How long to keep serving after readiness turned 503.
    shutdown_delay: Duration,
    /// How long requests, their events and the worker get to finish, each.
    shutdown_timeout: Duration,
    /// Level of the log, or a tracing filter.
    log_level: String,
    /// Format of the log.
    log_format: LogFormat,
}
