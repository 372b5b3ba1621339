//! The binary is killed repeatedly under load, always on the same folder. At the end each order that was confirmed to a
//! client is stored once, as it was last confirmed, and deleted orders are deleted. The clients remember each answer,
//! and the test compares the folder with that.

use tempfile::TempDir;

use crate::clients::load::{Ending, Load};
use crate::harness::child::Child;
use crate::harness::ledger;

/// How many times the process is killed.
const KILLS: usize = 20;

/// How many confirmations the clients have seen each time.
const CONFIRMATIONS: usize = 300;

/// How many clients there are.
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_orders_survive_twenty_kills_under_load() {
    let folder = TempDir::new().unwrap();
    let mut load = Load::of(CLIENTS);
    for _ in 0..KILLS {
        let child = Child::up(folder.path()).await;
        let mut running = load.start(child.address());
        running.confirmed(CONFIRMATIONS).await;
        child.kill_9().await;
        load = running.ended().await;
    }
    let killed_at_work = load.endings().filter(|ending| matches!(ending, Ending::Broken(_))).count();
    assert!(killed_at_work > KILLS, "the kills must hit requests in flight, or nothing was tested");

    let child = Child::up(folder.path()).await;
    load.settle(child.address()).await;
    child.stop().await;
    load.check(&ledger::verified_orders(folder.path(), load.confirmed()).await);
}
