//! Copies of the embedded store's database file: a copy without its WAL, which has the newest orders, is refused,
//! because it would silently lack them; complete copies are opened, and so is the folder of a killed process.

use std::fs;
use std::path::Path;

use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{Lists, Maintenance};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::clients::USER;
use crate::harness::binary::ran;
use crate::harness::child::{Child, command};
use crate::store::conformance::{create, some_user};

/// How many orders each store has.
const COUNT: usize = 100;

/// A server that has stored some orders.
async fn serving(folder: &Path) -> Child {
    let child = Child::up(folder).await;
    for number in 0..COUNT {
        let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"A-{number}"}}}}"#);
        assert_eq!(child.post(&body).await.status, 201);
    }
    child
}

fn program(folder: &Path, args: &[&str]) -> std::process::Command {
    let mut command = command(env!("CARGO_BIN_EXE_orderstream"), folder).into_std();
    command.args(args);
    command
}

async fn count(folder: &Path) -> usize {
    let store = SqliteStore::open(folder).expect("a store");
    let count = store.scan(None, 1_000).await.expect("the store answers").len();
    store.close().await;
    count
}

#[tokio::test]
async fn a_copy_without_its_wal_is_refused_and_one_with_it_is_opened() {
    let (folder, alone, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let child = serving(folder.path()).await;
    fs::copy(folder.path().join("orders.db"), alone.path().join("orders.db")).unwrap();
    child.kill_9().await;
    for name in ["orders.db", "orders.db-wal"] {
        fs::copy(folder.path().join(name), whole.path().join(name)).unwrap();
    }
    for args in [&["up"][..], &["verify"], &["migrate"]] {
        let refusal = ran(&mut program(alone.path(), args)).refused(2);
        for part in ["orders.db-wal", "orderstream backup", "--accept-missing-wal"] {
            assert!(refusal.contains(part), "{args:?}: {refusal}");
        }
    }
    assert_eq!(count(whole.path()).await, COUNT);
    // The folder of the killed process can be used, also after further kills.
    for _ in 0..2 {
        Child::up(folder.path()).await.kill_9().await;
    }
    assert_eq!(count(folder.path()).await, COUNT);

    // The operator can accept the missing WAL, once and for all.
    ran(&mut program(alone.path(), &["migrate", "--accept-missing-wal"])).ok();
    let store = SqliteStore::open(alone.path()).unwrap();
    create(&store, some_user(), "{}").await;
    store.close().await;
}

#[tokio::test]
async fn a_complete_copy_is_opened_for_every_way_of_copying() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let child = serving(folder.path()).await;
    let file = folder.path().join("orders.db");
    let subfolder = |name: &str| {
        fs::create_dir(copies.path().join(name)).unwrap();
        copies.path().join(name)
    };
    let shell = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let vacuumed = subfolder("vacuum");
    shell.execute("VACUUM INTO ?1", [vacuumed.join("orders.db").to_str().unwrap()]).unwrap();
    let backed_up = subfolder("backup");
    shell.backup("main", backed_up.join("orders.db"), None::<fn(rusqlite::backup::Progress)>).unwrap();
    drop(shell);
    assert_eq!(count(&vacuumed).await, COUNT);
    assert_eq!(count(&backed_up).await, COUNT);

    child.stop().await;
    let stopped = subfolder("stopped");
    fs::copy(&file, stopped.join("orders.db")).unwrap();
    assert_eq!(count(&stopped).await, COUNT);
}
