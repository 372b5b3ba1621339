//! File descriptors: more idle sockets than a process may open. The limits on connections stay below the limit of the
//! process, so the store, the log and the health checks have what they need.

use tokio::time::timeout;

use super::LIVENESS;
use super::peer::{ATTACKER, open_idle};
use super::target::{Launch, Store};
use crate::clients::USER;
use crate::clients::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_soft_limit_is_raised_and_the_log_names_the_limits() {
    let launch = Launch::on(Store::Embedded).set("LOG_LEVEL", "info").descriptors(256, 1024);
    let target = launch.start().await;
    let line = target.logged("the limit of file descriptors").await;
    for part in ["soft_before=\"256\"", "soft=\"1024\"", "hard=\"1024\""] {
        assert!(line.contains(part), "{line}");
    }
    let line = target.logged("the most connections at a time").await;
    assert!(line.contains("api_port=448") && line.contains("grpc_port=448"), "{line}");
    let line = target.logged("max_connections (10000) is lowered to 448").await;
    assert!(line.contains("WARN") && line.contains("set MAX_CONNECTIONS to 448"), "{line}");
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_high_enough_limit_of_descriptors_lowers_no_setting() {
    let launch = Launch::on(Store::Embedded).set("LOG_LEVEL", "info").set("MAX_CONNECTIONS", "100");
    let target = launch.descriptors(512, 512).start().await;
    let line = target.logged("the most connections at a time").await;
    assert!(line.contains("api_port=100"), "{line}");
    assert!(!target.log().iter().any(|line| line.contains("is lowered")), "{:?}", target.log());
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sockets_beyond_the_limit_leave_descriptors_for_the_store_and_the_log() {
    let target = Launch::on(Store::Embedded).descriptors(1024, 1024).start().await;
    let mut caller = Wire::connect(target.http).await.unwrap();
    let _idle = (open_idle(ATTACKER, target.http, 1100).await, open_idle(ATTACKER, target.grpc, 1100).await);
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    for _ in 0..50 {
        let alive = timeout(LIVENESS, caller.get("/health/live")).await.expect("liveness in time");
        assert_eq!(alive.unwrap().status, 200);
        assert_eq!(caller.post(&body).await.unwrap().status, 201);
    }
    assert!(target.open_descriptors() < 1024 - 64, "{} are open", target.open_descriptors());
    assert!(!target.log().iter().any(|line| line.contains("cannot accept")), "{:?}", target.log());
    target.stop().await;
}
