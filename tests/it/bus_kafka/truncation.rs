//! A log of ACKs that lost its end, as after the crash of the only replica that was up to date: old ACKs are not told a
//! second time, and none that is sent after the loss was noticed is missed.

use std::sync::Arc;

use orderstream::bus::kafka::KafkaBus;
use orderstream::bus::{Bus, PublishError, Reply};
use orderstream::order::AckStatus;
use tokio::sync::mpsc;

use crate::bus_conformance::{Told, ack};
use crate::support::kafka::{Corner, ready};
use crate::support::servers::{Private, Server};
use crate::support::wait::{until, within};

/// How many ACKs there are before the loss.
const ACKS: i64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_that_a_cut_log_still_has_are_not_told_again_and_new_ones_are() {
    let servers = Private::new();
    let corner = Corner::at(&servers.up(Server::Kafka));
    let bus = KafkaBus::open(corner.options.clone()).unwrap();
    let (sink, mut told) = mpsc::unbounded_channel();
    bus.on_acks(Arc::new(Told(sink)));
    ready(&*bus).await;
    let theirs = corner.bus().await;
    // Each is heard before the next is sent, so that each is a batch of its own.
    for version in 1..=ACKS {
        send(&*theirs, version).await.unwrap();
        assert_eq!(within("an ACK", told.recv()).await.unwrap().version, Some(version));
    }
    servers.kill("kafka");
    servers.cut_log(&corner.options.ack_topic, 0);
    servers.up(Server::Kafka);
    let theirs = corner.bus().await;
    let mut version = ACKS;
    let first = until("an ACK that was sent after the loss", async || {
        version += 1;
        send(&*theirs, version).await.unwrap();
        told.try_recv().ok()
    })
    .await;
    assert!(first.version > Some(ACKS), "{first:?} was told before");
    // From now on none is missed.
    let mut last = first.version.unwrap();
    while last < version {
        let next = within("the next ACK", told.recv()).await.unwrap().version.unwrap();
        assert_eq!(next, last + 1);
        last = next;
    }
    ready(&*bus).await;
}

async fn send(bus: &dyn Bus, version: i64) -> Result<(), PublishError> {
    let ack = ack(Some(version), AckStatus::Processed);
    bus.acknowledge(vec![Reply { ack, to: Some(0) }]).await
}
