//! Signals: SIGHUP and SIGQUIT drain a server as SIGTERM does, and a signal ends every other command. That also holds
//! for the first process of a PID namespace, as in a container: there no signal has a default action.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child as Process, Command};

use crate::clients::load::Load;
use crate::harness::child::{Child, command};
use crate::harness::ledger;
use crate::harness::schema::Schema;
use crate::harness::system::DEAD_LETTERS;
use crate::harness::wait::{until, within};

/// The signals that end a process in order, and their numbers.
const SIGNALS: [(&str, i32); 4] = [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_closes_under_load_stops_the_server_in_order() {
    let folder = TempDir::new().unwrap();
    let mut load = Load::of(16);
    for name in ["HUP", "QUIT"] {
        let mut child = Child::up(folder.path()).await;
        let mut running = load.start(child.address());
        running.confirmed(200).await;
        child.signal(name).await;
        load = running.ended().await;
        assert_eq!(child.exit().await.code(), Some(0), "SIG{name}");
        load.expect_unanswered_commands_undone();
        load.check(&ledger::verified_orders(folder.path(), load.confirmed()).await);
    }
}

#[tokio::test]
async fn a_server_under_nohup_outlives_its_terminal() {
    let folder = TempDir::new().unwrap();
    let mut nohup = command("nohup", folder.path());
    nohup.args([env!("CARGO_BIN_EXE_orderstream"), "up"]).stdin(Stdio::null()).stderr(Stdio::null());
    let child = Child::start(nohup).await;
    child.signal("HUP").await;
    let body = format!(r#"{{"user_id":"{}","payload":{{"amount":"7.00"}}}}"#, crate::clients::USER);
    assert_eq!(child.post(&body).await.status, 201);
    child.stop().await;
}

/// Starts a command as process 1 of its own PID namespace, and returns the process that waits for it.
fn first_process(folder: &TempDir, prepare: impl FnOnce(&mut Command)) -> Process {
    let mut unshare = command("unshare", folder.path());
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_orderstream")]);
    prepare(&mut unshare);
    unshare.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    unshare.spawn().expect("unshare of util-linux is installed")
}

/// The id, in the namespace of the test, of the process that `unshare` waits for.
async fn inside(unshare: &Process) -> String {
    let id = unshare.id().unwrap();
    until("the first process", async || {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let child = children.split_whitespace().next()?.to_owned();
        // The child is the program once it has this name.
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "orderstream").then_some(child)
    })
    .await
}

/// Sends a signal from outside, and returns the exit code and the standard error.
async fn end(mut unshare: Process, name: &str) -> (Option<i32>, String) {
    let id = inside(&unshare).await;
    let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
    assert!(sent.success(), "SIG{name} could not be sent to {id}");
    let mut message = String::new();
    let mut stderr = unshare.stderr.take().unwrap();
    within("the standard error of the command", stderr.read_to_string(&mut message)).await.unwrap();
    (within("the end of the command", unshare.wait()).await.unwrap().code(), message)
}

#[tokio::test]
async fn a_signal_ends_a_waiting_migration_as_the_first_process() {
    let folder = TempDir::new().unwrap();
    let schema = Schema::empty().await;
    let client = schema.connect().await;
    // The lock of another process that migrates.
    let lock = "SELECT pg_advisory_lock(1869767781, hashtext(current_schema()))";
    client.batch_execute(lock).await.unwrap();
    for (name, number) in SIGNALS {
        let unshare = first_process(&folder, |command| {
            command.arg("migrate").env("POSTGRES_DSN", &schema.dsn);
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE pid <> pg_backend_pid() AND query LIKE '%pg_try_advisory_lock(1869767781%'
                       AND query NOT LIKE '%pg_stat_activity%' AND datname = current_database()";
        until("a migration that waits", async || {
            let count: i64 = client.query_one(waits, &[]).await.unwrap().get(0);
            (count > 0).then_some(())
        })
        .await;
        let (code, message) = end(unshare, name).await;
        assert_eq!(code, Some(128 + number), "SIG{name}: {message}");
        assert!(message.contains(&format!("ended by SIG{name}")), "{message}");
        until("the session of the migration to end", async || {
            let count: i64 = client.query_one(waits, &[]).await.unwrap().get(0);
            (count == 0).then_some(())
        })
        .await;
    }
    drop(client);
    schema.open().migrate().await.expect("a later migration succeeds");
}

#[tokio::test]
async fn a_signal_ends_a_command_that_waits_as_the_first_process() {
    let folder = TempDir::new().unwrap();
    for (name, number) in SIGNALS {
        // The read blocks its thread: only another thread sees the signal.
        let unshare = first_process(&folder, |command| {
            command.args(["verify", "--confirmed", "-"]);
        });
        let id = inside(&unshare).await;
        until("the read to block", async || {
            let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
            (mask >> (number - 1) & 1 == 1 && status.contains("State:\tS")).then_some(())
        })
        .await;
        let (code, message) = end(unshare, name).await;
        assert_eq!(code, Some(128 + number), "SIG{name}: {message}");
    }
}

#[tokio::test]
async fn a_backup_ended_by_a_signal_leaves_no_partial_file() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let migrated = command(env!("CARGO_BIN_EXE_orderstream"), folder.path()).arg("migrate").status().await;
    assert!(migrated.unwrap().success());
    // The backup reads this file after the pages, and waits there, because it is a pipe.
    let dead_letters = folder.path().join(DEAD_LETTERS);
    assert!(Command::new("mkfifo").arg(&dead_letters).status().await.unwrap().success());
    let unshare = first_process(&folder, |command| {
        command.arg("backup").arg(copies.path().join("orders.backup"));
    });
    let open = move || fs::File::options().write(true).open(dead_letters);
    let opened = within("the backup to wait", tokio::task::spawn_blocking(open)).await.unwrap();
    let names = || fs::read_dir(copies.path()).unwrap().count();
    assert_eq!(names(), 1, "the partial file exists");
    let (code, message) = end(unshare, "TERM").await;
    assert_eq!(code, Some(128 + 15), "{message}");
    assert_eq!(names(), 0, "no file is left");
    drop(opened);
}
