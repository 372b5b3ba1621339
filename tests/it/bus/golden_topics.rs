//! The messages in the topics, byte for byte. The whole system on Postgres and Kafka writes exactly the samples in
//! `tests/golden`, except for ids and times. It also reads the messages of other services, which do not use our
//! headers.

use std::time::Duration;

use orderstream::bus::Record;

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, time};
use crate::clients::http::Client;
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::shared::Shared;

/// The order of the samples.
const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";

/// A sample without the newline that ends its file.
macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../golden/", $name, ".json")).trim_end_matches('\n')
    };
}

fn text(record: &Record) -> &str {
    str::from_utf8(&record.value).expect("a record of text")
}

/// A sample as a record of this order, with the time of the record that was written.
fn expected(sample: &str, id: &str, written: &Record, clock: &str, headers: &[(&str, &str)]) -> Record {
    let at = member(text(written), clock);
    time(&at);
    let value = sample.replace(ORDER, id).replace(&member(sample, clock), &at);
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Record { key: Some(id.into()), headers: headers.collect(), value: value.into_bytes() }
}

#[tokio::test]
async fn the_events_of_an_order_are_exactly_the_samples() {
    let app = Shared::start(Setup::new()).await;
    let (new, processing) = (golden!("event_new"), golden!("event_processing"));
    let id = create(app.client(), &member(new, "payload")).await;
    for payload in [&member(processing, "payload"), "[]"] {
        let update = format!(r#"{{"order_id":"{id}","payload":{payload}}}"#);
        assert_eq!(app.client().post("/orders", update).await.status, 200);
    }
    let delete = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
    assert_eq!(app.client().post("/orders", delete).await.status, 200);
    let events = app.finish().await.events_of(&id);
    assert_eq!(events.len(), 4);
    for (at, sample) in [(0, new), (1, processing), (3, golden!("event_deleted"))] {
        let version = (at + 1).to_string();
        let headers = [
            ("event-id", format!("{id}/{version}")),
            ("order-version", version),
            ("reply-partition", "0".to_owned()),
        ];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let event = &events[at];
        assert_eq!(event, &expected(sample, &id, event, "timestamp", &headers), "{}", text(event));
    }
}

#[tokio::test]
async fn the_acks_of_an_order_are_exactly_the_samples() {
    let app = Shared::start(Setup::new()).await;
    let id = create(app.client(), "{}").await;
    // More digits than an amount may have.
    let update =
        format!(r#"{{"order_id":"{id}","payload":{{"amount":"{digits}"}}}}"#, digits = "9".repeat(1001));
    assert_eq!(app.client().post("/orders", update).await.status, 200);
    let delete = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
    assert_eq!(app.client().post("/orders", delete).await.status, 200);
    let acks = app.finish().await.acks_of(&id);
    let samples = [golden!("ack_processed"), golden!("ack_failed"), golden!("ack_updated")];
    assert_eq!(acks.len(), samples.len());
    for ((version, ack), sample) in (1..).zip(&acks).zip(samples) {
        let headers = [("order-version", format!("{version}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(ack, &expected(sample, &id, ack, "processed_at", &headers), "{}", text(ack));
    }
}

#[tokio::test]
async fn an_event_of_the_old_service_that_names_no_order_creates_one() {
    let mut app = Shared::start(Setup::new()).await;
    let value = golden!("old_event_create").to_owned();
    app.feed(Record { key: None, headers: Vec::new(), value: value.into_bytes() }, 1).await;
    let found = app.client().get(&format!("/orders/by-external/A-18?user_id={USER}")).await;
    let shown = member(found.text(), "order");
    assert_eq!(member(&shown, "status"), "done");
    let id = member(&shown, "order_id");
    let ack = app.acks(&id, 1).await.remove(0);
    // A worker that created the order knows its version.
    let headers = [("order-version", "1")];
    assert_eq!(ack, expected(golden!("ack_processed"), &id, &ack, "processed_at", &headers));
    app.finish().await;
}

#[tokio::test]
async fn an_event_of_the_old_service_finishes_the_order_that_it_names() {
    let mut app = Shared::start(Setup::new().settings(|settings| settings.ack_wait = false)).await;
    app.stop_worker().await;
    let id = create(app.client(), r#"{"id":"A-17","amount":"12.30"}"#).await;
    let event = app.events(&id, 1).await.remove(0);
    // It gets the time of our event, because the sample's own time is older than this order.
    let sample = golden!("old_event_update");
    let at = member(text(&event), "timestamp").replace('Z', "999+00:00");
    let value = sample.replace(ORDER, &id).replace(&member(sample, "timestamp"), &at);
    app.start_worker().await;
    app.feed(Record { key: None, headers: Vec::new(), value: value.into_bytes() }, 2).await;
    let answer = app.client().get(&format!("/orders/{id}")).await;
    let shown = member(answer.text(), "order");
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "12.30"));
    app.finish().await;
}

#[tokio::test]
async fn an_ack_of_the_old_service_answers_the_caller_of_that_order() {
    // A day: only the ACK can end this wait.
    let wait_for_a_day = |settings: &mut orderstream::config::Settings| {
        settings.ack_wait_timeout = Duration::from_secs(24 * 60 * 60);
    };
    let mut app = Shared::start(Setup::new().settings(wait_for_a_day)).await;
    app.stop_worker().await;
    let address = app.client().address();
    let post = |user: &str| {
        let body = format!(r#"{{"user_id":"{user}","payload":{{}}}}"#);
        tokio::spawn(async move { Client::new(address).post("/orders", body).await })
    };
    let (mine, theirs) = (post(USER), post(STRANGER));
    let traffic = app.witness.journal.until(|traffic| traffic.events.len() == 2).await;
    let of = |user: &str| {
        let event = traffic.events.iter().find(|event| member(text(event), "user_id") == user);
        member(text(event.expect("an event of that user")), "order_id")
    };
    let acked = golden!("old_ack").replace(ORDER, &of(USER));
    app.test_topics.write(&app.test_topics.options.ack_topic, None, None, &[], Some(acked.as_bytes()));
    let answer = mine.await.expect("an answer");
    assert_eq!((answer.status, member(answer.text(), "order_id")), (201, of(USER)));
    assert!(!theirs.is_finished(), "the other caller still waits");
    app.start_worker().await;
    assert_eq!(theirs.await.expect("an answer").status, 201);
    app.finish().await;
}
