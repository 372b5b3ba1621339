//! Processes that are stopped under load: restarts one after the other, as in a deployment. A client sees a closed
//! connection at most, and no order is lost, duplicated or late.

use crate::clients::load::{Ending, Load};
use crate::clients::wire::Broken;
use crate::harness::cluster::Cluster;

/// How often every process is restarted.
const RESTARTS: usize = 4;

/// How many confirmations lie between two restarts.
const CONFIRMATIONS: usize = 200;

/// How many clients there are.
const CLIENTS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_under_load_lose_and_duplicate_no_order_and_delay_no_client() {
    let mut cluster = Cluster::setup().await.start(3, 2).await;
    let mut running = Load::of(CLIENTS).start_on(&cluster.api_addresses);
    for _ in 0..RESTARTS {
        for _ in 0..3 {
            running.confirmed(CONFIRMATIONS).await;
            // Clients still have the address of the stopped api: some of their calls fail.
            cluster.apis.remove(0).stop().await;
            cluster.start_api().await;
        }
        for _ in 0..2 {
            running.confirmed(CONFIRMATIONS).await;
            cluster.workers.remove(0).stop().await;
            cluster.start_worker().await;
        }
        running.discard_confirmations();
    }
    running.confirmed(CONFIRMATIONS).await;
    // A 202, or any error other than a 503, has already failed the test.
    let mut load = running.stopped().await;
    let mut moved = 0;
    for ending in load.endings() {
        match ending {
            Ending::Refused | Ending::Broken(Broken::Silent) => moved += 1,
            Ending::Stopped => {}
            Ending::Rejected(_) | Ending::Broken(Broken::Torn(_)) | Ending::Exhausted => {
                panic!("{ending:?}")
            }
        }
    }
    assert!(moved > 0, "the restarts must end connections, or nothing was tested");
    load.expect_unanswered_commands_undone();
    let orders = cluster.finish(&load.confirmed_orders(), 0).await;
    load.check(&orders);
}
