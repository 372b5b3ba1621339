//! Several hosts in one DSN: a standby that is listed first, and a host that does not respond. Besides, a server that
//! allows one connection, a password that is changed in its file, and a server that is still starting.

use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use orderstream::config::ReadFrom;
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Lists, Maintenance, Orders};
use tokio::net::TcpListener;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::clients::USER;
use crate::harness::child::{self, Child};
use crate::harness::schema;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};
use crate::store::conformance::{create, row, some_user};

/// Options with several read connections, as in a process.
fn options(dsn: &str) -> Options {
    Options { dsn: dsn.to_owned(), read_connections: 4, ..schema::options() }
}

fn open(options: &Options) -> PostgresStore {
    PostgresStore::open(options).expect("a DSN that can be used")
}

/// `host:port` of a DSN that the servers' script prints.
fn host_of(dsn: &str) -> &str {
    dsn.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("a URL").0
}

/// A DSN of two hosts.
fn dsn_of(first: &str, second: &str) -> String {
    format!("postgres://postgres@{first},{second}/orderstream")
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.expect("a Postgres that listens");
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_confirmed_order_is_read_although_a_standby_is_listed_first() {
    let (first, second) = (Private::new(), Private::new());
    let primary = first.up(Server::Postgres);
    open(&options(&primary)).migrate().await.unwrap();
    let standby = second.standby_of(&primary);
    let two = dsn_of(host_of(&standby), host_of(&primary));
    let store = open(&options(&two));
    create(&store, some_user(), "{}").await;
    let late = open(&Options { read_from: ReadFrom::Any, ..options(&two) });
    until("the standby", async || (!late.scan(None, 1).await.unwrap().is_empty()).then_some(())).await;

    // The standby still answers, without newer changes.
    let client = connect(&standby).await;
    client.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    let id = create(&store, some_user(), "{}").await;
    assert_eq!(row(&store, id).await.version, 1);
    assert_eq!(late.get(id).await, Ok(None), "the setting allows older rows");
    client.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    until("the standby", async || late.get(id).await.unwrap()).await;

    // A standby without a primary is refused, and the error names the remedy.
    let refused = open(&options(&standby)).get(id).await.unwrap_err().to_string();
    assert!(refused.contains("standby") && refused.contains("POSTGRES_READ_FROM=any"), "{refused}");
}

#[tokio::test]
async fn a_silent_host_does_not_block_the_next_host() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    // It accepts connections, and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = dsn_of(&silent.local_addr().unwrap().to_string(), host_of(&dsn));
    let options = Options { connect_timeout: Duration::from_secs(600), ..options(&two) };
    let store = open(&options);
    within("the second host", store.migrate()).await.unwrap();
    assert_eq!(within("the second host", store.check()).await, Ok(()));
    let id = within("the second host", create(&store, some_user(), "{}")).await;
    assert_eq!(row(&store, id).await.version, 1);

    let alone = format!("postgres://postgres@{}/orderstream", silent.local_addr().unwrap());
    let alone = open(&Options { connect_timeout: Duration::from_millis(200), ..self::options(&alone) });
    let refused = alone.get(id).await.unwrap_err().to_string();
    assert!(refused.contains("did not answer in time"), "{refused}");
}

#[tokio::test]
async fn work_of_a_refused_connection_moves_to_another() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    open(&options(&dsn)).migrate().await.unwrap();
    let id = create(&open(&options(&dsn)), some_user(), "{}").await;
    let admin = connect(&dsn).await;
    admin
        .batch_execute(
            "CREATE ROLE clerk LOGIN CONNECTION LIMIT 1; GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk",
        )
        .await
        .unwrap();
    let clerk = dsn.replace("postgres@", "clerk@");
    for read_connections in [1, 4] {
        let store = open(&Options { read_connections, ..options(&clerk) });
        // The first connection takes the only one that is allowed, as soon as the previous session has released it: the
        // server lists a session as ended a moment before that.
        until("the only connection", async || store.get(id).await.ok()).await;
        for order in join_all((0..50).map(|_| store.get(id))).await {
            assert_eq!(order.map(|order| order.map(|order| order.id)), Ok(Some(id)));
        }
        store.close().await;
        let sessions = "SELECT 1 FROM pg_stat_activity WHERE usename = 'clerk' LIMIT 1";
        until("the end of its connection", async || {
            admin.query_opt(sessions, &[]).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_password_that_is_changed_in_its_file_needs_no_restart() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    open(&options(&dsn)).migrate().await.unwrap();
    let admin = connect(&dsn).await;
    admin
        .batch_execute(
            "CREATE ROLE clerk LOGIN PASSWORD 'one'; GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk;
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO clerk",
        )
        .await
        .unwrap();
    let rules = servers.postgres_data().join("pg_hba.conf");
    let rest = fs::read_to_string(&rules).unwrap();
    // Written in place, so that the file keeps its owner.
    fs::write(&rules, format!("host all clerk all scram-sha-256\n{rest}")).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let clerk = |password: &str| dsn.replace("postgres@", &format!("clerk:{password}@"));
    until("the rules", async || tokio_postgres::connect(&clerk("wrong"), NoTls).await.err()).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dsn");
    fs::write(&file, clerk("one") + "\n").unwrap();
    let store = open(&Options { dsn_file: Some(file.clone()), ..options(&clerk("one")) });
    let id = create(&store, some_user(), "{}").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clerk'";
    admin.batch_execute(&format!("ALTER ROLE clerk PASSWORD 'two'; {end}")).await.unwrap();
    let refused = until("the refusal", async || store.check().await.err()).await.to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");

    fs::write(&file, "nonsense").unwrap();
    let refused = until("the refusal", async || store.check().await.err()).await.to_string();
    assert!(
        refused.contains("password authentication failed"),
        "a file that cannot be read changes nothing: {refused}"
    );
    fs::write(&file, clerk("two")).unwrap();
    until("the new password", async || store.check().await.ok()).await;
    assert_eq!(until("the order", async || store.get(id).await.ok()).await.unwrap().id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_waits_for_a_starting_server() {
    let servers = Arc::new(Private::new());
    let dsn = servers.up(Server::Postgres);
    servers.kill("postgres");
    // The server recovers, and accepts no connection until it is promoted.
    let data = servers.postgres_data();
    fs::write(data.join("postgresql.auto.conf"), "hot_standby = off\n").unwrap();
    fs::write(data.join("standby.signal"), "").unwrap();
    let script = Arc::clone(&servers);
    let starting = tokio::task::spawn_blocking(move || script.up(Server::Postgres));
    until("a server that is starting", async || {
        let refused = tokio_postgres::connect(&dsn, NoTls).await.err()?;
        (refused.code() == Some(&SqlState::CANNOT_CONNECT_NOW)).then_some(())
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = child::command(env!("CARGO_BIN_EXE_orderstream"), folder.path());
    command.arg("up").env("POSTGRES_DSN", &dsn).stderr(File::create(&log).unwrap());
    let running = tokio::spawn(Child::start(command));
    until("the program to wait", async || {
        let lines = fs::read_to_string(&log).unwrap();
        lines.contains("waiting until the server has started").then_some(())
    })
    .await;
    assert!(!running.is_finished());
    fs::write(data.join("promote"), "").unwrap();
    let process = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let process = process.lines().next().unwrap();
    assert!(Command::new("kill").args(["-USR1", process]).status().unwrap().success());
    let child = running.await.unwrap();
    starting.await.unwrap();
    let answer = child.post(&format!(r#"{{"user_id":"{USER}","payload":{{"id":"A-1"}}}}"#)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    child.stop().await;
}
