//! The binary is killed under load, again and again, always on the same folder. Whatever a client saw
//! confirmed is there in the end, once, as it was last confirmed, and deleted orders are deleted.

use tempfile::TempDir;

use crate::clients::load::{Ending, Load};
use crate::harness::child::Child;
use crate::harness::ledger;

/// How often the process is killed.
const ROUNDS: usize = 20;

/// How many confirmations the clients have seen each time.
const CONFIRMATIONS: usize = 300;

/// How many clients there are.
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_confirmed_survives_being_killed_twenty_times_under_load() {
    let folder = TempDir::new().unwrap();
    let mut load = Load::of(CLIENTS);
    for _ in 0..ROUNDS {
        let child = Child::up(folder.path()).await;
        let mut running = load.start(child.address());
        running.confirmed(CONFIRMATIONS).await;
        child.kill_9().await;
        load = running.ended().await;
    }
    let killed_at_work = load.endings().filter(|ending| matches!(ending, Ending::Broken(_))).count();
    assert!(killed_at_work > ROUNDS, "the kills must hit requests under way, or nothing was tested");

    let child = Child::up(folder.path()).await;
    load.settle(child.address()).await;
    child.stop().await;
    load.check(&ledger::verified_orders(folder.path(), load.confirmed()).await);
}
