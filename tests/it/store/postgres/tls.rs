//! TLS and passwords against a Postgres that demands them: every `sslmode` does what libpq's does, and whoever is
//! turned away learns why, without the password.

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

/// A Postgres of a test's own.
struct Postgres {
    _servers: Private,
    /// Of its superuser, who needs neither TLS nor a password.
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

    /// One with a certificate and its key.
    async fn with_tls(certificate: [PathBuf; 2]) -> Postgres {
        let postgres = Postgres::start();
        let data = PathBuf::from(postgres.shown("data_directory").await);
        for (from, name) in certificate.iter().zip(["server.crt", "server.key"]) {
            let file = data.join(name);
            fs::copy(from, &file).unwrap();
            // It takes a key that nobody else can read, and may run as a user of its own.
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

    /// Has the server read its files again. It does so between two connections, all files together.
    async fn reload(&self) {
        self.connect().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        until("TLS", async || (self.shown("ssl").await == "on").then_some(())).await;
    }

    /// Makes a user who may only come with TLS and this password.
    async fn admit(&self, user: &str, password: &str) {
        let sql = format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}'; GRANT CREATE ON SCHEMA public TO {user}"
        );
        self.connect().await.batch_execute(&sql).await.unwrap();
        let file = self.shown("hba_file").await;
        let rest = fs::read_to_string(&file).unwrap();
        let rules = format!("hostssl all {user} all scram-sha-256\nhost all {user} all reject\n{rest}");
        // Written in place: the file stays its owner's.
        fs::write(&file, rules).unwrap();
        self.reload().await;
    }

    /// A store with such parameters.
    fn store(&self, parameters: &str) -> PostgresStore {
        self.open(&format!("port={} user=postgres dbname=orderstream {parameters}", self.port))
    }

    fn open(&self, dsn: &str) -> PostgresStore {
        let options = Options { dsn: dsn.to_owned(), ..options() };
        PostgresStore::open(&options).expect("a DSN that can be used")
    }

    /// Of the connections that the stores have open, by user: whether TLS carries them.
    async fn encrypted(&self, user: &str) -> Vec<bool> {
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                    WHERE application_name = 'orderstream' AND usename = $1";
        let rows = self.connect().await.query(sql, &[&user]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Why a store cannot reach its server.
async fn refusal(store: &PostgresStore) -> String {
    match store.check().await {
        Err(Error::Unavailable(reason)) => reason,
        other => panic!("nobody may come in, and the answer was {other:?}"),
    }
}

/// Migrates, writes and reads.
async fn use_it(store: &PostgresStore) {
    store.migrate().await.unwrap();
    // More than one record of TLS holds.
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
async fn a_certificate_that_does_not_pass_is_refused_and_the_reason_told() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    let [ours, others] = ["ours", "others"].map(|name| trusting(&certificates, name));
    for (parameters, reason) in [
        (format!("host=127.0.0.1 sslmode=require {others}"), "UnknownIssuer"),
        (format!("host=127.0.0.1 sslmode=verify-ca {others}"), "UnknownIssuer"),
        (format!("host=127.0.0.1 sslmode=verify-full {others}"), "UnknownIssuer"),
        (format!("{OTHER_NAME} sslmode=verify-full {ours}"), "not valid for name \"db.example\""),
    ] {
        let said = refusal(&postgres.store(&parameters)).await;
        assert!(said.contains("certificate") && said.contains(reason), "{parameters}: {said}");
    }
    assert!(postgres.encrypted("postgres").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorities_of_the_system_are_trusted_where_that_is_said() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    let dsn = |name: &str| {
        format!(
            "host={name} hostaddr=127.0.0.1 port={} user=postgres dbname=orderstream sslrootcert=system",
            postgres.port
        )
    };
    // What the system trusts is what the variable names, as OpenSSL has it.
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
async fn a_server_that_is_its_own_authority_is_trusted_where_its_certificate_is() {
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
        let said = refusal(&postgres.store(&parameters)).await;
        assert!(said.contains("certificate"), "{parameters}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let (postgres, certificates) = (Postgres::start(), Certificates::new());
    let ours = trusting(&certificates, "ours");
    for mode in ["require", &format!("verify-ca {ours}"), &format!("verify-full {ours}")] {
        let said = refusal(&postgres.store(&format!("host=127.0.0.1 sslmode={mode}"))).await;
        assert!(said.contains("does not support TLS"), "{mode}: {said}");
    }
    assert!(postgres.encrypted("postgres").await.is_empty());
    use_it(&postgres.store("host=127.0.0.1 sslmode=prefer")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_in_whoever_knows_it_and_no_message_repeats_it() {
    let certificates = Certificates::new();
    let postgres = Postgres::with_tls(certificates.server()).await;
    // Its end is what a URL has to escape.
    let secret = uuid::Uuid::now_v7().simple().to_string();
    postgres.admit("clerk", &format!("{secret} @/:%")).await;
    let trusted = trusting(&certificates, "ours");
    let end = format!("127.0.0.1:{}/orderstream?sslmode=verify-full&{trusted}", postgres.port);
    let right = format!("postgres://clerk:{secret}%20%40%2F%3A%25@{end}");
    // What the server proves is bound to the certificate that the client saw.
    let store = postgres.open(&format!("{right}&channel_binding=require"));
    use_it(&store).await;
    let seen = postgres.encrypted("clerk").await;
    assert!(!seen.is_empty() && seen.iter().all(|it| *it), "{seen:?}");

    for (dsn, reason) in [
        (format!("postgres://clerk:{secret}@{end}"), "password authentication failed for user \"clerk\""),
        (format!("postgres://clerk@{end}"), "password missing"),
        (right.replace("verify-full", "disable"), "pg_hba.conf rejects connection"),
    ] {
        let said = refusal(&postgres.open(&dsn)).await;
        assert!(said.contains(reason) && !said.contains(&secret), "{said}");
    }
}
