//! `orderstream backup` and `restore`: a backup that is taken beside a server under load, and restored after the server
//! was killed, has every order that was confirmed before it began. Neither command replaces a file without --force.

use std::fs;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use orderstream::order::{HistoryOffset, Scope};
use orderstream::store::sqlite::SqliteStore;
use orderstream::store::{History, Maintenance};
use tempfile::TempDir;

use crate::clients::USER;
use crate::clients::load::Load;
use crate::harness::binary::{Place, Ran, ran};
use crate::harness::child::{Child, command};
use crate::store::conformance::{create, some_user};

/// How many commands are confirmed before the backup.
const CONFIRMATIONS: usize = 500;

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_orderstream"), folder).into_std();
    command.args(args);
    command
}

fn run(folder: &Path, args: &[&str]) -> Ran {
    ran(&mut program(folder, args))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_every_order_confirmed_before() {
    let (folder, copies, empty) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = copies.path().join("orders.backup");
    let name = file.to_str().unwrap();
    let child = Child::up(folder.path()).await;
    let mut before = Load::of(8).start(child.address());
    before.confirmed(CONFIRMATIONS).await;
    let before = before.stopped().await;
    let list: String =
        before.confirmed_orders().iter().map(|(id, status)| format!("{id} {status}\n")).collect();
    let confirmed = copies.path().join("confirmed");
    fs::write(&confirmed, list).unwrap();

    let mut load = Load::of(8).start(child.address());
    load.confirmed(50).await;
    let copy = program(folder.path(), &["backup", name]);
    let copied = tokio::task::spawn_blocking(move || ran(&mut { copy })).await.unwrap().ok();
    assert!(copied.contains("nothing is wrong"), "{copied}");
    assert_eq!(names(copies.path()), ["confirmed", "orders.backup"], "no other file is left");
    load.discard_confirmations();
    load.confirmed(50).await;

    // A backup does not replace a file, and a restore neither a store that exists nor one in use.
    let refusal = run(folder.path(), &["backup", name]).refused(2);
    assert!(refusal.contains(name) && refusal.contains("--force"), "{refusal}");
    run(folder.path(), &["backup", name, "--force"]).ok();
    for args in [&["restore", name][..], &["restore", name, "--force"]] {
        let refusal = run(folder.path(), args).refused(2);
        assert!(refusal.contains("in use by another process"), "{refusal}");
    }
    child.kill_9().await;
    drop(load.ended().await);
    let refusal = run(folder.path(), &["restore", name]).refused(2);
    assert!(refusal.contains("orders.db exists") && refusal.contains("--force"), "{refusal}");

    let restored = run(empty.path(), &["restore", name]).ok();
    assert!(restored.contains("nothing is wrong"), "{restored}");
    let list = confirmed.to_str().unwrap();
    for folder in [empty.path(), folder.path()] {
        if folder.join("orders.db-wal").exists() {
            // The restore replaces the files of the killed server, also its WAL.
            run(folder, &["restore", name, "--force"]).ok();
        }
        run(folder, &["verify", "--confirmed", list]).ok();
        let child = Child::up(folder).await;
        before.settle(child.address()).await;
        let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"after"}}}}"#);
        assert_eq!(child.post(&body).await.status, 201);
        child.stop().await;
        run(folder, &["verify", "--idle", "--confirmed", list]).ok();
    }
}

#[tokio::test]
async fn history_offsets_keep_growing_after_a_restore_of_an_empty_history() {
    let (folder, copies, empty) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = copies.path().join("copy");
    let name = file.to_str().unwrap();
    let offsets = async |store: &SqliteStore| {
        (store.history_end().await.unwrap(), store.history_dropped().await.unwrap())
    };
    let before = {
        let store = SqliteStore::open(folder.path()).unwrap();
        for _ in 0..3 {
            create(&store, some_user(), "{}").await;
        }
        assert_eq!(store.clean(Timestamp::MIN, Some(Timestamp::MAX), 100).await, Ok(3));
        let offsets = offsets(&store).await;
        store.close().await;
        offsets
    };
    assert_eq!(
        (before.0, before.0 > HistoryOffset::default()),
        (before.1, true),
        "all history events are dropped"
    );
    run(folder.path(), &["backup", name]).ok();
    run(empty.path(), &["restore", name]).ok();
    for folder in [folder.path(), empty.path()] {
        let store = SqliteStore::open(folder).unwrap();
        assert_eq!(offsets(&store).await, before);
        let id = create(&store, some_user(), "{}").await;
        // A follower that had read everything gets the new history event, and no other.
        let page = store.history_page(Scope::All, before.0, 10).await.unwrap();
        let new: Vec<_> = page.events.iter().map(|event| (event.order_id, event.offset > before.0)).collect();
        assert_eq!(new, [(id, true)]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_backup_has_the_dead_letters_and_other_files_are_not_restored() {
    let (folder, empty) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    Child::up(folder.path()).await.stop().await;
    let letters = "{\"reason\":\"one\"}\n{\"reason\":\"two\"}\n";
    fs::write(folder.path().join("orders.events.dlq.jsonl"), format!("{letters}{{\"torn")).unwrap();
    let file = folder.path().join("copy");
    let name = file.to_str().unwrap();
    assert!(run(folder.path(), &["backup", name]).ok().contains("2 dead letters"));
    assert!(run(empty.path(), &["restore", name]).ok().contains("2 dead letters"));
    assert_eq!(fs::read_to_string(empty.path().join("orders.events.dlq.jsonl")).unwrap(), letters);
    assert!(run(empty.path(), &["verify"]).ok().contains("2 dead letters"));

    let nothing = TempDir::new().unwrap();
    for (bytes, message) in [("no database", "file is not a database"), ("", "not a backup")] {
        fs::write(&file, bytes).unwrap();
        let refusal = run(nothing.path(), &["restore", name]).refused(2);
        assert!(refusal.contains(name) && refusal.contains(message), "{refusal}");
        assert!(!nothing.path().join("orders.db").exists());
    }
    fs::remove_file(&file).unwrap();
    assert!(run(nothing.path(), &["restore", name]).refused(2).contains("does not exist"));
    assert!(run(nothing.path(), &["backup", name]).refused(2).contains("there is no order database"));
    assert_eq!(names(nothing.path()), ["LOCK"]);
}

#[test]
fn backup_and_restore_of_postgres_name_its_own_tools() {
    let place = Place::new();
    for (args, tool) in [(["backup", "copy"], "pg_dump"), (["restore", "copy"], "pg_restore")] {
        let mut command = place.command(&args);
        let refusal = ran(command.env("POSTGRES_DSN", "postgres://clerk@127.0.0.1:1/orders")).refused(2);
        assert!(refusal.contains(tool) && refusal.contains("POSTGRES_DSN"), "{refusal}");
    }
}
