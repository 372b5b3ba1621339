//! TLS and passwords with a Postgres that demands them: every `sslmode` has the meaning that it has for libpq, and the
//! error of a refused client names the reason, without the password. Each test starts a server, and makes the
//! certificates and passwords.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Error, Maintenance};
use tokio_postgres::{Client, NoTls};

use crate::harness::binary::{Place, ran};
use crate::harness::certificates::Certificates;
use crate::harness::schema::options;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;
use crate::store::conformance::{create, row, some_user};

/// A name that the server's certificate does not hold.
const OTHER_NAME: &str = "host=db.example hostaddr=127.0.0.1";

/// A Postgres of one test.
struct Postgres {
    _servers: Private,
    /// The DSN of its superuser, who needs neither TLS nor a password.
    dsn: String,
    port: u16,
}

impl Postgres {
    fn start() -> Postgres {
        let servers = Private::new();
        let dsn = servers.up(Server::Postgres);
        let config: tokio_postgres::Config = dsn.parse().unwrap();
        Postgres { _servers: servers, dsn, port: config.get_ports()[0] }
    }

    /// A Postgres with a certificate and its key.
    async fn with_tls(certificate: [PathBuf; 2]) -> Postgres {
        let postgres = Postgres::start();
        let data = PathBuf::from(postgres.shown("data_directory").await);
        for (from, name) in certificate.iter().zip(["server.crt", "server.key"]) {
            let file = data.join(name);
            fs::copy(from, &file).unwrap();
            // The server accepts a key that no other user can read; it may run as a user of its own.
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let owner = fs::metadata(&data).unwrap();
            chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        postgres.connect().await.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        postgres.reload().await;
        postgres
    }

    async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn shown(&self, setting: &str) -> String {
        self.connect().await.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0)
    }

    /// Makes the server read its files again. It reads all of them together, between two connections.
    async fn reload(&self) {
        self.connect().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until("TLS", async || (self.shown("ssl").await == "on").then_some(())).await;
    }

    /// Creates a user who can log in only with TLS and this password.
    async fn admit(&self, user: &str, password: &str) {
        let sql = format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}'; GRANT CREATE ON SCHEMA public TO {user}"
        );
        self.connect().await.batch_execute(&sql).await.unwrap();
        let file = self.shown("hba_file").await;
        let rest = fs::read_to_string(&file).unwrap();
        let rules = format!("hostssl all {user} all scram-sha-256\nhost all {user} all reject\n{rest}");
        // Written in place, so that the file keeps its owner.
        fs::write(&file, rules).unwrap();
        self.reload().await;
    }

    /// A store with these connection parameters.
    fn store(&self, parameters: &str) -> PostgresStore {
        self.open(&format!("port={} user=postgres dbname=orderstream {parameters}", self.port))
    }

    fn open(&self, dsn: &str) -> PostgresStore {
        let options = Options { dsn: dsn.to_owned(), ..options() };
        PostgresStore::open(&options).expect("a DSN that can be used")
    }

    /// Whether each open connection of the stores, as that user, uses TLS.
    async fn encrypted(&self, user: &str) -> Vec<bool> {
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                    WHERE application_name = 'orderstream' AND usename = $1";
        let rows = self.connect().await.query(sql, &[&user]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// The reason why a store cannot use its server.
async fn refusal(store: &PostgresStore) -> String {
    match store.check().await {
        Err(Error::Unavailable(reason)) => reason,
        other => panic!("the server must refuse the store, and the answer was {other:?}"),
    }
}

/// Migrates, writes and reads.
async fn use_it(store: &PostgresStore) {
    store.migrate().await.unwrap();
    // The payload is larger than a record of TLS.
    let payload = format!("{:?}", "x".repeat(100_000));
    let id = create(store, some_user(), &payload).await;
    assert_eq!(row(store, id).await.payload.as_str(), payload);
}

fn trusting(certificates: &Certificates, authority: &str) -> String {
    format!("sslrootcert={}", certificates.authority(authority).display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_encrypted_and_verified_as_sslmode_says() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    let ours = trusting(&certificates, "ours");
    let (ip, name) = ("host=127.0.0.1", "host=localhost hostaddr=127.0.0.1");
    for (parameters, encrypted) in [
        (format!("{ip} sslmode=disable"), false),
        (ip.to_owned(), true),
        (format!("{ip} sslmode=require"), true),
        (format!("{ip} sslmode=require {ours}"), true),
        (format!("{ip} sslmode=verify-ca {ours}"), true),
        (format!("{OTHER_NAME} sslmode=verify-ca {ours}"), true),
        (format!("{ip} sslmode=verify-full {ours}"), true),
        (format!("{name} sslmode=verify-full {ours}"), true),
    ] {
        let store = postgres.store(&parameters);
        use_it(&store).await;
        let seen = postgres.encrypted("postgres").await;
        assert!(!seen.is_empty() && seen.iter().all(|it| *it == encrypted), "{parameters}: {seen:?}");
        store.close().await;
        let closed = async || postgres.encrypted("postgres").await.is_empty().then_some(());
        until("connections that are closed", closed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_certificate_is_refused_with_the_reason() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    let [ours, others] = ["ours", "others"].map(|name| trusting(&certificates, name));
    for (parameters, reason) in [
        (format!("host=127.0.0.1 sslmode=require {others}"), "UnknownIssuer"),
        (format!("host=127.0.0.1 sslmode=verify-ca {others}"), "UnknownIssuer"),
        (format!("host=127.0.0.1 sslmode=verify-full {others}"), "UnknownIssuer"),
        (format!("{OTHER_NAME} sslmode=verify-full {ours}"), "not valid for name \"db.example\""),
    ] {
        let error = refusal(&postgres.store(&parameters)).await;
        assert!(error.contains("certificate") && error.contains(reason), "{parameters}: {error}");
    }
    assert!(postgres.encrypted("postgres").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorities_of_the_system_are_trusted_where_the_dsn_says_so() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    let dsn = |name: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={} user=postgres dbname=orderstream sslrootcert=system",
            postgres.port
        )
    };
    // The variable names the authorities of the system, as for OpenSSL.
    for (name, authority, expected) in [
        ("localhost", "ours", ""),
        ("localhost", "others", "UnknownIssuer"),
        ("db.example", "ours", "not valid for name"),
    ] {
        let place = Place::new();
        let mut command = place.command(&["migrate"]);
        command.env("POSTGRES_DSN", dsn(name)).env("SSL_CERT_FILE", certificates.authority(authority));
        let ran = ran(&mut command);
        assert_eq!(
            (ran.code == 0, ran.stderr.contains(expected)),
            (expected.is_empty(), true),
            "{}",
            ran.stderr
        );
    }
    let weak = format!("{} sslmode=require", dsn("localhost"));
    let refused = PostgresStore::open(&Options { dsn: weak, ..options() }).err().unwrap();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("verify-full"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_server_is_trusted_where_its_certificate_is() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.own_authority("ours")).await;
    let [ours, others] = ["ours", "others"].map(|name| trusting(&certificates, name));
    let name = "host=ours.example hostaddr=127.0.0.1";
    for parameters in [
        format!("host=127.0.0.1 sslmode=verify-ca {ours}"),
        format!("{name} sslmode=verify-ca {ours}"),
        format!("{name} sslmode=verify-full {ours}"),
    ] {
        use_it(&postgres.store(&parameters)).await;
    }
    for parameters in [
        format!("host=127.0.0.1 sslmode=verify-full {ours}"),
        format!("{name} sslmode=verify-ca {others}"),
        format!("{name} sslmode=verify-full {others}"),
    ] {
        let error = refusal(&postgres.store(&parameters)).await;
        assert!(error.contains("certificate"), "{parameters}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let (postgres, certificates) = (Postgres::start(), Certificates::new());
    let ours = trusting(&certificates, "ours");
    for mode in ["require", &format!("verify-ca {ours}"), &format!("verify-full {ours}")] {
        let error = refusal(&postgres.store(&format!("host=127.0.0.1 sslmode={mode}"))).await;
        assert!(error.contains("does not support TLS"), "{mode}: {error}");
    }
    assert!(postgres.encrypted("postgres").await.is_empty());
    use_it(&postgres.store("host=127.0.0.1 sslmode=prefer")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_the_password_is_admitted_and_no_message_repeats_it() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    // The password ends with characters that a URL must escape.
    let secret = uuid::Uuid::now_v7().simple().to_string();
    postgres.admit("clerk", &format!("{secret} @/:%")).await;
    let trusted = trusting(&certificates, "ours");
    let end = format!("127.0.0.1:{}/orderstream?sslmode=verify-full&{trusted}", postgres.port);
    let right = format!("postgres://clerk:{secret}%20%40%2F%3A%25@{end}");
    // Channel binding: the server's proof includes the certificate that the client received.
    let store = postgres.open(&format!("{right}&channel_binding=require"));
    use_it(&store).await;
    let seen = postgres.encrypted("clerk").await;
    assert!(!seen.is_empty() && seen.iter().all(|it| *it), "{seen:?}");

    for (dsn, reason) in [
        (format!("postgres://clerk:{secret}@{end}"), "password authentication failed for user \"clerk\""),
        (format!("postgres://clerk@{end}"), "password missing"),
        (right.replace("verify-full", "disable"), "pg_hba.conf rejects connection"),
    ] {
        let error = refusal(&postgres.open(&dsn)).await;
        assert!(error.contains(reason) && !error.contains(&secret), "{error}");
    }
}
