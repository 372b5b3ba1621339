//! Small inputs whose amount is expensive to compute: items whose prices and quantities differ by many digits. The
//! tests of the contract cover which numbers are accepted.

use std::net::SocketAddr;

use futures_util::future::join_all;

use super::bystander::{BystanderClient, exchange};
use super::target::{Launch, STORES, assert_small};
use crate::clients::USER;
use crate::clients::answers::{member, order_id};
use crate::clients::grpc;
use crate::harness::wait::within;

/// How many callers send at a time, of each protocol.
const MANY: usize = 4;

/// The number of items that just fit into the limit of a body.
const ITEMS: usize = 30_000;

/// Items whose costs lie between 1e-96 and 1e98.
fn costly_items() -> String {
    let item = |at: usize| {
        let (price, qty) = (900 + at % 99, 900 + at % 97);
        format!(r#"{{"price":"1e{price}","qty":"1e-{qty}"}}"#)
    };
    format!(r#"{{"items":[{}]}}"#, (0..ITEMS).map(item).collect::<Vec<_>>().join(","))
}

async fn create(http: SocketAddr, payload: &str) -> String {
    let body = format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#);
    let created = within("an answer", exchange(http, "POST /orders HTTP/1.1\r\n", &body)).await.unwrap();
    assert_eq!(created.status, 201, "{created:?}");
    order_id(&created).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts_that_are_expensive_to_compute_delay_no_other_caller() {
    let payload = costly_items();
    for store in STORES {
        let target = Launch::on(store).start().await;
        let bystander = BystanderClient::start(&target);
        let by_http = join_all((0..MANY).map(|_| create(target.http, &payload)));
        let by_grpc = join_all((0..MANY).map(|_| async {
            let mut orders = grpc::connect(target.grpc);
            within("an answer", orders.upsert_order(grpc::creation(&payload))).await
        }));
        let (ids, by_grpc) = tokio::join!(by_http, by_grpc);
        for answer in by_grpc {
            grpc::upserted(answer, "created");
        }
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
        let line = format!("GET /orders/{} HTTP/1.1\r\n", ids[0]);
        let shown = within("an answer", exchange(target.http, &line, "")).await.unwrap();
        let amount = member(&member(shown.text(), "order"), "amount");
        // The digits reach from the largest cost to the smallest one.
        assert!(amount.len() > 190 && amount.contains('.'), "{amount}");
        target.stop().await;
    }
}
