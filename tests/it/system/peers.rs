//! Several processes of `orderstream up` on one Postgres, without Kafka: the others process the pending orders of a
//! killed one, and a record that no worker can process is in a table that all processes share. No process needs a data
//! folder.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use orderstream::app::DeadLetterTable;
use orderstream::bus::local::LocalBus;
use orderstream::bus::{Bus, Record, Source};
use orderstream::order::{Event, OrderId};
use serde_json::Value;
use tokio_postgres::Client;

use crate::bus::conformance::{Fresh, bus_conformance, receive, record};
use crate::bus::local::{ROOMY, TOPIC, foreign_source};
use crate::clients::USER;
use crate::harness::binary::{Place, ran};
use crate::harness::child::Child;
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// A database, and processes on it.
struct Peers {
    schema: Schema,
    client: Client,
    place: Place,
}

impl Peers {
    async fn on_empty_schema() -> Peers {
        let schema = Schema::empty().await;
        Peers { client: schema.connect().await, schema, place: Place::new() }
    }

    /// A command whose data directory cannot be made: a file is where its parent would be.
    fn command(&self, name: &str, args: &[&str]) -> Command {
        let file = self.place.write("file", "");
        let mut command = self.place.command(args);
        command
            .env("POSTGRES_DSN", format!("{}&application_name={name}", self.schema.dsn))
            .env("DATA_DIR", format!("{file}/data"))
            .env("API_PORT", "0")
            .env("GRPC_PORT", "0")
            .env("ACK_WAIT", "off")
            .stderr(Stdio::null());
        command
    }

    /// Starts a process with this application name at the server.
    async fn up(&self, name: &str) -> Child {
        Child::start(self.command(name, &["up"]).into()).await
    }

    /// The report of the checker.
    fn verified(&self, args: &[&str]) -> Value {
        let mut command = self.command("verify", &[&["verify", "--json"], args].concat());
        let ran = ran(command.stderr(Stdio::piped()));
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no report: {}", ran.stderr))
    }

    async fn count(&self, rows: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {rows}"), &[]).await.expect("a count").get(0)
    }

    /// Waits until there are that many rows.
    async fn until_there_are(&self, count: i64, rows: &str) {
        until(rows, async || (self.count(rows).await == count).then_some(())).await;
    }
}

/// Sends an order to a process, which stores it.
async fn create(process: &Child, amount: u32) -> String {
    let answer = process.post(&format!(r#"{{"user_id":"{USER}","payload":{{"amount":{amount}}}}}"#)).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    answer.text("order_id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_its_pending_orders_to_the_other() {
    let peers = Peers::on_empty_schema().await;
    let (killed, other) = (peers.up("killed").await, peers.up("other").await);
    // No worker completes an order while the gate is closed.
    let (gate, key) = (peers.schema.connect().await, uuid::Uuid::now_v7().as_u64_pair().1.cast_signed());
    peers
        .schema
        .execute(&format!(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared({key}); RETURN NEW; END $$;
             CREATE TRIGGER gate BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION wait_at_gate()"
        ))
        .await;
    gate.execute("SELECT pg_advisory_lock($1)", &[&key]).await.unwrap();
    for amount in 0..20 {
        create(&killed, amount).await;
    }
    let waits = "pg_locks l JOIN pg_stat_activity a USING (pid)
                  WHERE l.locktype = 'advisory' AND NOT l.granted AND a.application_name = 'killed'";
    until("its worker to wait at the gate", async || (peers.count(waits).await > 0).then_some(())).await;
    killed.kill_9().await;
    // A server ends the sessions of a client that is gone in the same way: the waiting statements never end.
    let sessions = "pg_stat_activity WHERE application_name = 'killed' AND datname = current_database()";
    peers.client.query(&format!("SELECT pg_terminate_backend(pid) FROM {sessions}"), &[]).await.unwrap();
    peers.until_there_are(0, sessions).await;
    assert_eq!(peers.count("orders WHERE processed_version < version").await, 20);

    gate.execute("SELECT pg_advisory_unlock($1)", &[&key]).await.unwrap();
    peers.until_there_are(20, "orders WHERE status = 'done'").await;
    peers.until_there_are(0, "orders_outbox").await;
    let report = peers.verified(&["--idle"]);
    assert_eq!((&report["checked"], &report["found"]), (&20.into(), &0.into()), "{report}");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_in_a_table_that_all_processes_share() {
    let peers = Peers::on_empty_schema().await;
    let processes = [peers.up("one").await, peers.up("two").await];
    // The server accepts every order, and rejects the outcome of some.
    peers.schema.execute("ALTER TABLE orders ADD CONSTRAINT lucky CHECK (amount IS DISTINCT FROM 13)").await;
    let mut bad = BTreeSet::new();
    for process in &processes {
        bad.insert(create(process, 13).await);
        create(process, 7).await;
    }
    peers.until_there_are(2, "orders WHERE status = 'done'").await;
    peers.until_there_are(2, "orders_dead_letters").await;
    // Each process counts the dead letters of both.
    for _ in &processes {
        let report = peers.verified(&[]);
        assert_eq!((&report["dead_letters"], &report["pending"]), (&2.into(), &2.into()), "{report}");
    }
    let sql = "SELECT key, value, header_names, header_values, reason, source_topic, cut_from FROM orders_dead_letters";
    for row in peers.client.query(sql, &[]).await.unwrap() {
        let key = String::from_utf8(row.get(0)).unwrap();
        let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(2), row.get(3));
        let headers = names.iter().map(String::as_str).zip(values.iter().map(Vec::as_slice));
        let event = Event::decode(row.get(1), headers, jiff::Timestamp::UNIX_EPOCH).expect("an event");
        assert_eq!((event.order_id, event.version), (OrderId::parse(&key), Some(1)));
        assert_eq!(event.payload.as_str(), r#"{"amount":13}"#);
        assert!(bad.remove(&key), "one letter for each order");
        let reason: String = row.get(4);
        assert!(reason.starts_with("the order cannot be stored: ") && reason.contains("lucky"), "{reason}");
        assert_eq!((row.get::<_, &str>(5), row.get::<_, Option<i64>>(6)), ("orders.events", None));
    }
    for process in processes {
        process.stop().await;
    }
}

/// A bus that keeps its dead letters in a schema of its own.
async fn open() -> (Arc<LocalBus>, Schema) {
    let schema = Schema::migrated().await;
    let table = DeadLetterTable::of(Arc::new(schema.open()));
    (LocalBus::with_dead_letters(Arc::new(table), TOPIC, ROOMY), schema)
}

async fn fresh() -> Fresh {
    let (bus, schema) = open().await;
    let (feeder, offsets) = (Arc::clone(&bus), AtomicI64::new(0));
    let produce = move |record| {
        let (bus, source) = (Arc::clone(&feeder), foreign_source(offsets.fetch_add(1, Ordering::Relaxed)));
        tokio::spawn(async move { bus.feed(source, record).await });
    };
    Fresh { bus, produce: Box::new(produce), _keep: Box::new(schema) }
}

bus_conformance!(fresh);

/// Feeds a record, and has it rejected.
async fn reject(bus: &Arc<LocalBus>, source: Source, record: Record, reason: &str) {
    let mut worker = bus.subscribe().await.expect("a subscription");
    let feeder = Arc::clone(bus);
    let fed = tokio::spawn(async move { feeder.feed(source, record).await });
    let delivery = within("the record", receive(&mut *worker, 1)).await.remove(0);
    assert_eq!(bus.reject(delivery, reason).await, Ok(()));
    assert_eq!(fed.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_dead_letter_in_the_table_has_every_byte_of_its_record() {
    let (bus, schema) = open().await;
    let sent = Record { key: None, ..record(b"\xff\x00\x7f") };
    reject(&bus, foreign_source(17), sent.clone(), "a reason\0of odd bytes").await;
    let sql =
        "SELECT reason, source_topic, source_partition, source_offset, source_timestamp::text, key, value,
                      header_names, header_values FROM orders_dead_letters";
    let client = schema.connect().await;
    client.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "a reason\u{fffd}of odd bytes");
    assert_eq!((row.get::<_, &str>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), ("other.events", 3, 17));
    assert_eq!(row.get::<_, &str>(4), "2025-10-09 08:53:20.123456+00");
    let headers: Vec<String> = row.get(7);
    let headers: Vec<_> = headers.into_iter().zip(row.get::<_, Vec<Vec<u8>>>(8)).collect();
    assert_eq!(Record { key: row.get(5), value: row.get(6), headers }, sent);
}

#[tokio::test]
async fn a_very_long_dead_letter_is_cut_and_records_its_length() {
    let (bus, schema) = open().await;
    let length = (64 << 20) + 1;
    reject(&bus, foreign_source(1), record(&vec![b'x'; length]), "too long").await;
    let sql = "SELECT value, cut_from FROM orders_dead_letters";
    let row = schema.connect().await.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, Vec<u8>>(0), row.get::<_, i64>(1)), (vec![b'x'; 8 << 10], length as i64));
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_inserted_leaves_its_record_unsettled() {
    let (bus, schema) = open().await;
    schema.execute("ALTER TABLE orders_dead_letters RENAME TO away").await;
    let mut worker = bus.subscribe().await.expect("a subscription");
    let feeder = Arc::clone(&bus);
    let fed = tokio::spawn(async move { feeder.feed(foreign_source(1), record(b"no event")).await });
    let delivery = within("the record", receive(&mut *worker, 1)).await.remove(0);
    let error = bus.reject(delivery, "it is no event").await.expect_err("there is no table");
    assert!(error.to_string().contains("run `orderstream migrate`"), "{error}");
    assert!(fed.await.expect("no panic").is_err(), "the record is redelivered");
}
