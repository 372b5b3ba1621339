//! A broker that is not available: from the start, for a while, or because it hangs. The check of the bus fails, each
//! call ends within a limit, and the bus works again by itself when the broker is back.

use std::sync::Arc;

use orderstream::bus::kafka::{KafkaBus, Security};
use orderstream::bus::{Bus, PublishError, Reply};
use orderstream::config::{KafkaSecurity, SaslMechanism};
use orderstream::order::AckStatus;
use tokio::sync::mpsc;

use super::{orders, pass_one, publish, worker};
use crate::bus::conformance::{AckRecorder, ack, events, published};
use crate::harness::kafka::{TestTopics, ready};
use crate::harness::ports;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};

fn reason<T: std::fmt::Debug>(answer: Result<T, PublishError>) -> String {
    match answer {
        Err(PublishError::Unavailable(reason)) => reason,
        other => panic!("the bus is not available, and answered {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_without_a_broker_opens_reports_what_is_missing_and_closes() {
    let nothing = ports::Closed::new();
    let test_topics = TestTopics::at(&nothing.address());
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    bus.on_acks(Arc::new(AckRecorder(mpsc::unbounded_channel().0)));
    let missing = format!("no Kafka broker answers at {} (KAFKA_BROKERS)", nothing.address());
    until("a check that names the missing broker", async || {
        reason(bus.check().await).contains(&missing).then_some(())
    })
    .await;
    for answer in within("a publish", published(&*bus, orders(2))).await {
        reason(answer);
    }
    let reply = Reply { ack: ack(None, AckStatus::Failed), to: Some(0) };
    reason(within("an ACK", bus.acknowledge(vec![reply])).await);
    reason(within("a count", bus.dead_letters()).await);
    let worker = within("a subscription", worker(&*bus)).await;
    within("a worker that leaves", worker.close()).await;
    within("a bus that closes", bus.close()).await;
    reason(published(&*bus, orders(1)).await.remove(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_recovers_after_its_broker_hung_or_was_killed() {
    let servers = Private::new();
    let test_topics = TestTopics::at(&servers.up(Server::Kafka));
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    let mut sent = pass_one(&*bus, &mut *worker).await;

    for killed in [false, true] {
        if killed {
            servers.kill("kafka")
        } else {
            servers.pause("kafka")
        }
        let batch = orders(2);
        for answer in within("a publish", published(&*bus, batch.clone())).await {
            reason(answer);
        }
        until("a check that fails", async || bus.check().await.err()).await;
        let late = KafkaBus::open(test_topics.options.clone()).unwrap();
        if killed {
            drop(servers.up(Server::Kafka))
        } else {
            servers.resume("kafka")
        }
        ready(&*bus).await;
        ready(&*late).await;
        // An unconfirmed publish may have reached the broker, and events that were settled just before may be
        // redelivered.
        sent.extend(batch);
        let last = orders(1);
        publish(&*late, &last).await;
        within("the event that was published last", async {
            loop {
                let deliveries = worker.next(10).await.unwrap();
                let seen = events(&deliveries);
                bus.settle(deliveries).await;
                if seen.contains(&last[0]) {
                    break;
                }
                assert!(seen.iter().all(|event| sent.contains(event)), "{seen:?}");
            }
        })
        .await;
        sent.extend(last);
        late.close().await;
    }
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_one_of_three_brokers_dies() {
    let servers = Private::new();
    let test_topics = TestTopics::at(&servers.three_brokers());
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    for (topic, partitions) in [
        (&test_topics.options.events_topic, 4),
        (&test_topics.options.ack_topic, 1),
        (&test_topics.dead_letter_topic(), 1),
    ] {
        assert_eq!(test_topics.copies(topic), vec![3; partitions], "{topic}");
        assert_eq!(test_topics.setting(topic, "min.insync.replicas").await, "2", "{topic}");
    }
    assert_eq!(test_topics.setting(&test_topics.dead_letter_topic(), "retention.ms").await, "-1");
    let mut batch = orders(20);
    publish(&*bus, &batch).await;
    servers.kill("kafka.2");
    // The cluster elects new leaders for its partitions; events that are refused meanwhile are published again.
    for event in orders(20) {
        until("an event that is taken", async || published(&*bus, vec![event.clone()]).await.remove(0).ok())
            .await;
        batch.push(event);
    }
    within("all events", async {
        while !batch.is_empty() {
            let deliveries = worker.next(100).await.unwrap();
            let seen = events(&deliveries);
            bus.settle(deliveries).await;
            batch.retain(|event| !seen.contains(event));
        }
    })
    .await;
    worker.close().await;
}

#[test]
fn a_password_login_needs_no_tls_library_and_other_logins_do() {
    let open = |protocol, mechanism| {
        let mut options = TestTopics::options("127.0.0.1:1");
        options.security = Security {
            protocol,
            mechanism,
            username: "orders".to_owned(),
            password: Some("hunter2".into()),
            ..options.security
        };
        KafkaBus::open(options).map(drop)
    };
    assert_eq!(open(KafkaSecurity::SaslPlaintext, SaslMechanism::Plain), Ok(()));
    let has_tls = cfg!(feature = "kafka-tls");
    for (protocol, mechanism) in [
        (KafkaSecurity::SaslPlaintext, SaslMechanism::ScramSha256),
        (KafkaSecurity::SaslPlaintext, SaslMechanism::ScramSha512),
        (KafkaSecurity::SaslPlaintext, SaslMechanism::OAuthBearer),
        (KafkaSecurity::SaslSsl, SaslMechanism::Plain),
        (KafkaSecurity::Ssl, SaslMechanism::Plain),
    ] {
        let opened = open(protocol, mechanism);
        assert_eq!(opened.is_ok(), has_tls, "{protocol:?}, {mechanism:?}: {opened:?}");
        assert!(!format!("{opened:?}").contains("hunter2"));
    }
}
