//! The WAL of the embedded store while a reader keeps an old snapshot: no write waits for the reader, the program logs
//! a large WAL once, and the file is short again when the reader has ended.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tempfile::{NamedTempFile, TempDir};

use crate::clients::USER;
use crate::harness::child::{Child, command};
use crate::harness::wait::{until, within};

/// A little less than the largest body: 240 pages.
const LARGE: usize = 960 << 10;

/// How many such orders make the WAL so long that it is logged: over 256 MiB.
const MANY: usize = 290;

fn order(number: usize, length: usize) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"L-{number}","text":"{}"}}}}"#, "x".repeat(length))
}

fn wal_length(folder: &Path) -> u64 {
    fs::metadata(folder.join("orders.db-wal")).map_or(0, |file| file.len())
}

#[tokio::test]
async fn writes_do_not_wait_for_readers_and_a_large_wal_is_logged() {
    let (folder, log) = (TempDir::new().unwrap(), NamedTempFile::new().unwrap());
    let mut up = command(env!("CARGO_BIN_EXE_orderstream"), folder.path());
    up.arg("up").env("LOG_LEVEL", "info").stderr(log.reopen().unwrap());
    let child = Child::start(up).await;
    let lines = |text: &str| {
        fs::read_to_string(log.path()).unwrap().lines().filter(|line| line.contains(text)).count()
    };
    assert_eq!(child.post(&order(0, 1)).await.status, 201);

    // A shell with an open read transaction.
    let file = folder.path().join("orders.db");
    let shell = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    shell.execute_batch("BEGIN").unwrap();
    let seen = || shell.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(seen(), 1);
    let mut wire = child.connect().await;
    within("writes beside a reader", async {
        for number in 1..=MANY {
            assert_eq!(wire.post(&order(number, LARGE)).await.expect("an answer").status, 201);
        }
    })
    .await;
    until("a log that reports the WAL", async || (lines("the WAL is large") == 1).then_some(())).await;
    assert!(wal_length(folder.path()) > 256 << 20);
    assert_eq!(seen(), 1, "the reader keeps its snapshot");
    assert_eq!(lines("the WAL is short again"), 0);

    shell.execute_batch("COMMIT").unwrap();
    until("a short WAL", async || {
        assert_eq!(wire.post(&order(0, 1)).await.expect("an answer").status, 201);
        (lines("the WAL is short again") == 1).then_some(())
    })
    .await;
    assert!(wal_length(folder.path()) <= 256 << 20, "the file is cut");
    assert_eq!(lines("the WAL is large"), 1, "the log has one line for all writes");
    child.stop().await;
}
