//! The program on Postgres and Kafka as operators run it: a migrated schema, api and worker as separate processes, with
//! the client and the checker. Messages about a missing server name its setting, and no message has a secret.

use std::process::{Command, Stdio};

use orderstream::order::OrderId;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio_postgres::NoTls;

use crate::clients::USER;
use crate::clients::http::Client;
use crate::harness::binary::{Place, Process, Ran, Server, ran};
use crate::harness::kafka::TestTopics;
use crate::harness::schema::Schema;
use crate::harness::servers::{self, Private};
use crate::harness::wait::until;

/// A folder to start the program in, and the schema and topics that it shares with other processes.
struct Site {
    place: Place,
    schema: Schema,
    test_topics: TestTopics,
}

impl Site {
    async fn new() -> Site {
        Site { place: Place::new(), schema: Schema::empty().await, test_topics: TestTopics::new() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let (mut command, options) = (self.place.command(args), &self.test_topics.options);
        command
            .env("POSTGRES_DSN", &self.schema.dsn)
            .env("KAFKA_BROKERS", options.brokers.join(","))
            .env("WORKER_GROUP", &options.group)
            .env("ORDERS_EVENTS_TOPIC", &options.events_topic)
            .env("ORDERS_ACK_TOPIC", &options.ack_topic);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }
}

fn id_in(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["order_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn migrate_of_a_shared_schema_prints_the_version_and_is_repeatable() {
    let site = Site::new().await;
    assert_eq!(site.run(&["migrate"]).ok(), "Postgres: schema version 8, 8 migrations applied\n");
    assert_eq!(site.run(&["migrate"]).ok(), "Postgres: schema version 8, 0 migrations applied\n");
}

#[tokio::test]
async fn without_a_schema_commands_say_how_to_create_it() {
    let site = Site::new().await;
    let ran = site.run(&["verify"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("run `orderstream migrate`"), "{}", ran.stderr);
    assert_eq!(site.test_topics.topics(), 0, "a reader creates no topics");
    let api = Server::start(site.command(&["api"]).stderr(Stdio::null()));
    let message = api.orders(&site.place, &["get", &OrderId::generate().to_string()]).refused(1);
    assert!(message.contains("(503)"), "{message}");
    // After the migration the api process needs no restart.
    site.run(&["migrate"]).ok();
    let client = client_of(&api);
    until("an api that is ready", async || (client.get("/health/ready").await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn api_and_worker_serve_the_client_as_separate_processes() {
    let site = Site::new().await;
    site.run(&["migrate"]).ok();
    let api = Server::start(&mut site.command(&["api"]));
    assert_eq!(api.ready, format!("OrderStream listens on {} and keeps its data in Postgres", api.url));
    // Its log reports the dead letter.
    let mut worker = Process::spawn(site.command(&["worker"]).stderr(Stdio::null()));
    let options = &site.test_topics.options;
    let expected = format!("OrderStream processes {} in the group {}", options.events_topic, options.group);
    assert_eq!(worker.line(), expected);

    let orders = |args: &[&str]| api.orders(&site.place, args).ok();
    let payload = r#"{"id":"A 1/%Ж","items":[{"price":9.90,"qty":2}],"n":12345678901234567890}"#;
    let id = id_in(&orders(&["create", "--user", USER, "--payload", payload]));
    let got = orders(&["get", &id]);
    assert!(got.contains("\"amount\":19.80") && got.contains(": 12345678901234567890"), "{got}");
    assert!(got.contains("\"status\":\"done\""), "{got}");
    assert_eq!(orders(&["find", "A 1/%Ж", "--user", USER]), got);
    let updated = orders(&["update", &id, "--payload", "[1.10]"]);
    assert_eq!(updated, format!("{{\"order_id\":\"{id}\",\"status\":\"updated\"}}\n"));
    assert!(orders(&["get", &id]).contains("\"payload\":[1.10]"));
    let watched = orders(&["watch", &id]);
    assert!(watched.ends_with(" done 2\n"), "{watched}");
    let deleted = id_in(&orders(&["create", "--user", USER, "--payload", "{}"]));
    orders(&["delete", &deleted]);
    let message = api.orders(&site.place, &["update", &deleted, "--payload", "{}"]).refused(1);
    assert!(message.starts_with("orderstream: order_deleted (409): "), "{message}");

    // The checker while they run, with the confirmed orders of callers and a record that no worker could read.
    site.test_topics.write(&options.events_topic, None, None, &[], Some(b"no event"));
    site.test_topics.read(&site.test_topics.dead_letter_topic(), 1);
    let list = site.place.write("ids.txt", &format!("{id} updated\n{deleted} deleted\n"));
    let clean = site.run(&["verify", "--idle", "--confirmed", &list]).ok();
    let expected = "checked 2 orders (1 done, 1 deleted); 0 pending; 1 dead letters\n\
                    looked up 2 orders that were confirmed to callers\nnothing is wrong\n";
    assert_eq!(clean, expected);
    let unknown = OrderId::generate().to_string();
    let list = site.place.write("ids.txt", &format!("{unknown}\n{id} deleted\n"));
    let ran = site.run(&["verify", "--confirmed", &list, "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&report["checked"], &report["found"], &report["dead_letters"]),
        (&2.into(), &2.into(), &1.into())
    );
    let codes = [&report["findings"][0]["code"], &report["findings"][1]["code"]];
    assert_eq!(codes, ["lost", "not_deleted"]);
}

#[tokio::test]
async fn up_runs_everything_on_postgres_and_kafka_and_migrates_the_schema() {
    let site = Site::new().await;
    let server = Server::start(&mut site.command(&["up"]));
    let id =
        id_in(&server.orders(&site.place, &["create", "--user", USER, "--payload", r#"{"amount":7}"#]).ok());
    assert!(server.orders(&site.place, &["get", &id]).ok().contains("\"amount\":7,"));
    assert!(site.run(&["verify", "--idle"]).ok().starts_with("checked 1 orders (1 done); 0 pending; 0 dead"));
    assert!(!site.place.data_dir().exists(), "nothing is stored outside the servers");
}

#[tokio::test]
async fn up_with_kafka_alone_keeps_its_orders_embedded() {
    let site = Site::new().await;
    let server = Server::start(site.command(&["up"]).env_remove("POSTGRES_DSN"));
    let id =
        id_in(&server.orders(&site.place, &["create", "--user", USER, "--payload", r#"{"amount":7}"#]).ok());
    assert!(server.orders(&site.place, &["get", &id]).ok().contains("\"status\":\"done\""));
    let events = site.test_topics.read(&site.test_topics.options.events_topic, 1);
    assert_eq!(events[0].1.key.as_deref(), Some(id.as_bytes()));
    let verified = ran(site.command(&["verify", "--idle"]).env_remove("POSTGRES_DSN"));
    assert!(verified.ok().starts_with("checked 1 orders (1 done); 0 pending; 0 dead letters\n"));
}

#[test]
fn a_single_role_is_refused_without_each_of_its_servers() {
    let dsn = ("POSTGRES_DSN", "postgres://clerk:hunter2@127.0.0.1:1/orders");
    for (role, given, missing) in [
        ("api", dsn, "KAFKA_BROKERS"),
        ("worker", dsn, "KAFKA_BROKERS"),
        ("api", ("KAFKA_BROKERS", "127.0.0.1:1"), "POSTGRES_DSN"),
        ("worker", ("KAFKA_BROKERS", "127.0.0.1:1"), "POSTGRES_DSN"),
    ] {
        let place = Place::new();
        let refused = ran(place.command(&[role]).env(given.0, given.1)).refused(2);
        assert!(refused.contains(&format!("{missing} is not set")), "{refused}");
        assert!(refused.contains(&format!("to run `{role}` alone")), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

#[tokio::test]
async fn config_shows_the_servers_and_hides_their_secrets() {
    let site = Site::new().await;
    let secret = site.place.write("dsn", "postgres://clerk:hunter2@db/orders\n");
    let mut command = site.command(&["config"]);
    command.env_remove("POSTGRES_DSN").env("POSTGRES_DSN_FILE", &secret);
    command.env("KAFKA_SASL_PASSWORD", "hunter3").env("REDIS_ADDR", "redis://:hunter4@cache");
    let shown = ran(&mut command).ok();
    for setting in ["postgres_dsn = \"***\"", "kafka_sasl_password = \"***\"", "redis_addr = \"***\""] {
        assert!(shown.contains(setting), "{shown}");
    }
    assert!(shown.contains(&format!("kafka_brokers = [\"{}\"]", servers::kafka())), "{shown}");
    assert!(shown.contains(&format!("# from the content of {secret}")), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn an_invalid_dsn_is_reported_without_the_password() {
    for dsn in [
        "postgres://clerk:hunter2@db:port/orders",
        "postgres://clerk:hunter2@db/orders?sslmode=sometimes",
        "host=db password='hunter2",
        "password=hunter2 nonsense",
    ] {
        for command in ["migrate", "verify", "up"] {
            let place = Place::new();
            let message = ran(place.command(&[command]).env("POSTGRES_DSN", dsn)).refused(2);
            assert_eq!(message.matches("POSTGRES_DSN cannot be used: ").count(), 1, "{message}");
            assert!(message.matches("; write ").count() <= 1, "the reason appears once: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

/// The log lines about an unavailable store and bus, and the part that each names.
const DOWN: [(&str, &str); 2] = [
    ("not ready; requests fail until the store is available", "store"),
    ("degraded; events wait in the store until the bus is available", "bus"),
];

#[tokio::test]
async fn unavailable_servers_are_reported_once_with_address_and_setting() {
    let (place, log) = (Place::new(), NamedTempFile::new().unwrap());
    let dsn = "postgres://clerk@127.0.0.1:1/orders";
    for name in ["migrate", "verify"] {
        let message = ran(place.command(&[name]).env("POSTGRES_DSN", dsn)).refused(2);
        assert!(message.contains("Postgres at 127.0.0.1:1 (POSTGRES_DSN): "), "{message}");
    }
    let mut command = place.command(&["verify"]);
    command.env("POSTGRES_DSN", dsn).env("KAFKA_BROKERS", "127.0.0.1:1");
    let message = ran(&mut command).refused(2);
    assert!(message.contains("no Kafka broker answers at 127.0.0.1:1 (KAFKA_BROKERS)"), "{message}");
    let mut command = place.command(&["api"]);
    command.env("POSTGRES_DSN", dsn).env("KAFKA_BROKERS", "127.0.0.1:1").stderr(log.reopen().unwrap());
    let api = Server::start(&mut command);
    let client = client_of(&api);
    let logged = || std::fs::read_to_string(log.path()).unwrap();
    let kafka = "no Kafka broker answers at 127.0.0.1:1 (KAFKA_BROKERS)";
    until("a log that reports Kafka", async || logged().contains(kafka).then_some(())).await;
    for _ in 0..10 {
        assert_eq!(client.get("/health/ready").await.status, 503);
    }
    // A separate thread writes the log.
    until("a log that reports both", async || {
        let logged = logged();
        DOWN.iter().all(|(line, part)| logged.contains(&format!("{line} part=\"{part}\""))).then_some(())
    })
    .await;
    drop(api);
    let logged = logged();
    assert!(logged.contains("Postgres at 127.0.0.1:1 (POSTGRES_DSN): "), "{logged}");
    for (line, part) in DOWN {
        let lines = logged.lines().filter(|text| text.contains(line) && text.contains(part)).count();
        assert_eq!(lines, 1, "{part}: {logged}");
    }
}

/// A Postgres that requires a password, and a DSN with a wrong one.
async fn strict_postgres() -> (Private, String) {
    let server = Private::new();
    let dsn = server.up(servers::Server::Postgres);
    let (admin, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    admin.batch_execute("CREATE ROLE clerk LOGIN PASSWORD 'another'").await.unwrap();
    let rules: String = admin.query_one("SHOW hba_file", &[]).await.unwrap().get(0);
    admin
        .batch_execute(&format!(
            "COPY (VALUES ('host all clerk 127.0.0.1/32 scram-sha-256')) TO '{rules}'; SELECT pg_reload_conf()"
        ))
        .await
        .unwrap();
    let wrong = dsn.replace("postgres@", "clerk:hunter2@");
    // The server reads its rules some time later.
    until("a server that requires the password", async || tokio_postgres::connect(&wrong, NoTls).await.err())
        .await;
    (server, wrong)
}

fn client_of(server: &Server) -> Client {
    Client::new(server.url.strip_prefix("http://").and_then(|address| address.parse().ok()).unwrap())
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_no_secret_is_printed() {
    let (_server, dsn) = strict_postgres().await;
    let place = Place::new();
    for name in ["migrate", "verify", "up"] {
        let mut command = place.command(&[name]);
        let ran = ran(command.env("POSTGRES_DSN", &dsn).env("LOG_LEVEL", "trace"));
        assert_eq!(ran.code, 2, "{name}");
        assert!(ran.stderr.contains("password authentication failed for user \"clerk\""), "{}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"), "{}", ran.stderr);
    }

    // A process that keeps running, with all kinds of secrets, and servers that accept none of them.
    let log = NamedTempFile::new().unwrap();
    let mut command = place.command(&["api"]);
    command
        .env("LOG_LEVEL", "trace")
        .env("POSTGRES_DSN", &dsn)
        .env("REDIS_ADDR", "redis://:hunter3@127.0.0.1:1")
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext")
        .env("KAFKA_SASL_USERNAME", "clerk")
        .env("KAFKA_SASL_PASSWORD", "hunter4")
        .stderr(log.reopen().unwrap());
    let api = Server::start(&mut command);
    let ready = client_of(&api).get("/health/ready").await;
    assert_eq!(ready.status, 503);
    let refused = api.orders(&place, &["create", "--user", USER, "--payload", "{}"]).refused(1);
    drop(api);
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("password authentication failed for user \"clerk\""), "{log}");
    for text in [ready.text(), &refused, &log] {
        assert!(!text.contains("hunter"), "{text}");
    }
}
