//! The calls of the embedded store that sync the disk, observed with strace: an order is answered after its commit is
//! on the disk, and where the disk does not confirm a commit, the answer says that its outcome is not known.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::clients::USER;
use crate::clients::answers::{member, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::binary::{INSTALLATION, output_within};
use crate::harness::child::{Child, command};
use crate::harness::ledger;

/// How many orders are sent, one after the other.
const ORDERS: usize = 20;

/// After how many calls the disk fails: more than a start needs, fewer than the orders need.
const CALLS_THAT_SUCCEED: usize = 40;

/// `orderstream up` under strace, which records every call that syncs the disk.
struct Traced {
    child: Child,
    client: Client,
    calls: PathBuf,
}

impl Traced {
    /// Starts it on a folder. The child process is the program; strace runs beside it and ends with it.
    async fn start(folder: &Path, calls: &Path, options: &[&str]) -> Traced {
        let mut script = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/strace"));
        let found = output_within(INSTALLATION, &mut script);
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let program = String::from_utf8(found.stdout).expect("a path");
        let mut traced = command(program.trim(), folder);
        traced.args(["-D", "-f", "-qq", "-y", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o"]);
        traced.arg(calls).args(options).args([env!("CARGO_BIN_EXE_orderstream"), "up"]);
        let child = Child::start(traced).await;
        Traced { client: Client::new(child.address()), child, calls: calls.to_owned() }
    }

    /// How often the WAL has been synced so far.
    fn wal_calls(&self) -> usize {
        let calls = fs::read_to_string(&self.calls).expect("the record of strace");
        calls.lines().filter(|call| call.contains("sync(") && call.contains("orders.db-wal>) = 0")).count()
    }

    /// Sends an order, and does not wait for the worker.
    async fn post(&self) -> Answer {
        let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
        let headers = [("prefer", "respond-async"), ("content-type", "application/json")];
        self.client.request("POST", "/orders", &headers, body).await
    }
}

#[tokio::test]
async fn an_order_is_answered_after_its_commit_was_synced() {
    let (folder, calls) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let traced = Traced::start(folder.path(), &calls.path().join("calls"), &[]).await;
    for number in 0..ORDERS {
        let before = traced.wal_calls();
        let answer = traced.post().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(traced.wal_calls() > before, "order {number} was answered before its commit was on the disk");
    }
    assert!(traced.wal_calls() >= ORDERS);
    traced.child.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await.len(), ORDERS);
}

#[tokio::test]
async fn a_commit_that_the_disk_does_not_confirm_is_an_unknown_outcome() {
    let (folder, calls) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let failing = format!("inject=fsync,fdatasync:error=EIO:when={CALLS_THAT_SUCCEED}+");
    let traced = Traced::start(folder.path(), &calls.path().join("calls"), &["-e", &failing]).await;
    let (mut confirmed, mut unknown) = (Vec::new(), Vec::new());
    // Each order takes one call at least.
    for _ in 0..=CALLS_THAT_SUCCEED + ORDERS {
        let answer = traced.post().await;
        if answer.status == 202 {
            assert_eq!(unknown, [] as [String; 0], "the disk still fails");
            confirmed.push(member(answer.text(), "order_id"));
        } else {
            problem(&answer, "outcome_unknown");
            unknown.push(member(answer.text(), "order_id"));
        }
    }
    assert!(!confirmed.is_empty() && unknown.len() >= ORDERS, "{} and {}", confirmed.len(), unknown.len());
    traced.child.kill_9().await;
    // On a working disk, all confirmed orders are stored; some of the others may be.
    let child = Child::up(folder.path()).await;
    let client = Client::new(child.address());
    for id in &confirmed {
        assert_eq!(client.get(&format!("/orders/{id}")).await.status, 200, "{id} was confirmed");
    }
    child.stop().await;
    let left = ledger::settled_orders(folder.path()).await;
    let is_known = |id: &String| confirmed.contains(id) || unknown.contains(id);
    assert!(left.iter().all(|order| is_known(&order.id.to_string())), "{left:?}");
}
