//! `POST /orders`: creating and updating orders, the fields and their rules, and the owner of an order. A user who is
//! not the owner gets the same answer as for an order that does not exist.

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, members, order, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

/// Asserts an answer of two members and returns the id.
fn accepted(answer: &Answer, status: u16, word: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let id = member(answer.text(), "order_id");
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"{word}"}}"#));
    id
}

pub(super) async fn a_request_without_an_id_creates_an_order<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut ids = Vec::new();
    for order_id in ["", r#""order_id":null,"#, r#""order_id":"","#, r#""order_id":"0","#, r#""order_id":0,"#]
    {
        for status in ["", r#""status":"","#, r#""status":"new","#, r#""status":null,"#] {
            let body = format!(r#"{{{order_id}{status}"user_id":"{USER}","payload":{{"amount":1}}}}"#);
            let answer = app.client().post("/orders", body).await;
            let id = accepted(&answer, 201, "created");
            assert_eq!(answer.header("location"), Some(format!("/orders/{id}").as_str()));
            assert_eq!(answer.header("retry-after"), None);
            assert_eq!(member(&order(app.client(), &id).await, "status"), "done");
            ids.push(id);
        }
    }
    let traffic = app.finish().await;
    for id in ids {
        let (events, acks) = (traffic.events_of(&id), traffic.acks_of(&id));
        assert_eq!((events.len(), acks.len()), (1, 1), "{id}");
        assert_eq!(member(str::from_utf8(&events[0].value).expect("text"), "status"), "new");
        assert_eq!(member(str::from_utf8(&acks[0].value).expect("text"), "status"), "processed");
    }
}

pub(super) async fn a_payload_as_text_takes_precedence_over_a_payload_as_json<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let stored = async |fields: &str| {
        let answer = app.client().post("/orders", format!(r#"{{"user_id":"{USER}",{fields}}}"#)).await;
        let id = accepted(&answer, 201, "created");
        members(&member(&order(app.client(), &id).await, "payload"))
    };
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(stored(r#""payload":{"a":1.50}"#).await, one("a", "1.50"));
    assert_eq!(stored(r#""payload_json":"{\"b\":2.50}""#).await, one("b", "2.50"));
    assert_eq!(stored(r#""payload_json":{"c":3.50}"#).await, one("c", "3.50"));
    assert_eq!(stored(r#""payload":{"a":1},"payload_json":"{\"b\":2}""#).await, one("b", "2"));
    assert_eq!(stored(r#""payload_json":{"c":3},"payload":{"a":1}"#).await, one("c", "3"));
    assert_eq!(stored(r#""payload":{"a":1},"payload_json":"""#).await, one("a", "1"));
    assert_eq!(stored(r#""payload":{"a":1},"payload_json":null"#).await, one("a", "1"));
    app.finish().await;
}

pub(super) async fn an_id_in_any_form_updates_and_is_answered_canonically<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let forms = [
        id.clone(),
        id.to_uppercase(),
        format!("urn:uuid:{id}"),
        format!("{{{id}}}"),
        id.replace('-', ""),
        id.replace('-', "").to_uppercase(),
    ];
    for (amount, form) in (2..).zip(forms) {
        for status in ["", r#","status":"new""#, r#","status":"""#] {
            let body = format!(r#"{{"order_id":"{form}","payload":{{"amount":{amount}}}{status}}}"#);
            let answer = app.client().post("/orders", body).await;
            assert_eq!(accepted(&answer, 200, "updated"), id);
            assert_eq!(answer.header("location"), None);
        }
        let shown = order(app.client(), &id).await;
        assert_eq!(member(&shown, "amount"), amount.to_string());
        assert_eq!(member(&shown, "status"), "done");
    }
    app.finish().await;
}

pub(super) async fn a_write_may_name_the_owner_and_a_stranger_finds_nothing<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let before = order(app.client(), &id).await;
    let foreign = [
        format!(r#"{{"order_id":"{id}","user_id":"{STRANGER}","payload":{{"amount":2}}}}"#),
        format!(r#"{{"order_id":"{id}","user_id":"{STRANGER}","status":"deleted"}}"#),
    ];
    for body in foreign {
        let unknown = body.replace(&id, UNKNOWN_ID);
        let (answer, of_unknown) =
            (app.client().post("/orders", body).await, app.client().post("/orders", unknown).await);
        assert_eq!(problem(&answer, "order_not_found"), problem(&of_unknown, "order_not_found"));
        assert_eq!(member(answer.text(), "order_id"), id);
    }
    assert_eq!(order(app.client(), &id).await, before);
    let owner = USER.to_uppercase();
    let update = format!(r#"{{"order_id":"{id}","user_id":"{owner}","payload":{{"amount":3}}}}"#);
    accepted(&app.client().post("/orders", update).await, 200, "updated");
    let without_owner = format!(r#"{{"order_id":"{id}","user_id":"","payload":{{"amount":4}}}}"#);
    accepted(&app.client().post("/orders", without_owner).await, 200, "updated");
    let shown = order(app.client(), &id).await;
    assert_eq!((member(&shown, "amount").as_str(), member(&shown, "user_id").as_str()), ("4", USER));
    let delete = format!(r#"{{"order_id":"{id}","user_id":"urn:uuid:{USER}","status":"deleted"}}"#);
    accepted(&app.client().post("/orders", delete).await, 200, "deleted");
    let traffic = app.finish().await;
    assert_eq!(traffic.events_of(&id).len(), 4, "a stranger's write publishes no event");
}

pub(super) async fn an_unknown_order_is_a_404<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let nil = "00000000-0000-0000-0000-000000000000";
    for id in [UNKNOWN_ID, nil] {
        let update = format!(r#"{{"order_id":"{id}","payload":{{}}}}"#);
        let delete = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
        let path = format!("/orders/{id}");
        for answer in [
            app.client().post("/orders", update).await,
            app.client().post("/orders", delete).await,
            app.client().get(&path).await,
        ] {
            problem(&answer, "order_not_found");
            assert_eq!(member(answer.text(), "order_id"), id);
        }
    }
    assert!(app.finish().await.events.is_empty());
}

pub(super) async fn an_invalid_field_is_a_400_that_names_it<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let refused = async |client: &Client, body: &str, field: &str| {
        let answer = client.post("/orders", body.to_owned()).await;
        let detail = problem(&answer, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{body}: {detail}");
        detail
    };
    for body in ["", " ", "[", "[]", "{", "7", "null", "\"text\"", "{}{}", "{},", "{'a':1}"] {
        refused(app.client(), body, "body").await;
    }
    for order_id in [r#""abc""#, r#"" 0""#, r#""00""#, "1", "true", "[]", r#""0196f1c8""#] {
        let body = format!(r#"{{"order_id":{order_id},"user_id":"{USER}","payload":{{}}}}"#);
        refused(app.client(), &body, "order_id").await;
    }
    for user_id in ["", r#""user_id":null,"#, r#""user_id":"","#, r#""user_id":"me","#, r#""user_id":7,"#] {
        refused(app.client(), &format!(r#"{{{user_id}"payload":{{}}}}"#), "user_id").await;
    }
    let bad_user = format!(r#"{{"order_id":"{id}","user_id":"me","payload":{{}}}}"#);
    refused(app.client(), &bad_user, "user_id").await;
    for payload in ["", r#","payload":null"#, r#","payload_json":"""#, r#","payload_json":null"#] {
        refused(app.client(), &format!(r#"{{"user_id":"{USER}"{payload}}}"#), "payload").await;
        refused(app.client(), &format!(r#"{{"order_id":"{id}"{payload}}}"#), "payload").await;
    }
    for text in ["[1]", "7", r#""{""#, r#""{} x""#] {
        refused(app.client(), &format!(r#"{{"user_id":"{USER}","payload_json":{text}}}"#), "payload_json")
            .await;
    }
    for status in [r#""done""#, r#""DELETED""#, "7"] {
        let body = format!(r#"{{"order_id":"{id}","payload":{{}},"status":{status}}}"#);
        let detail = refused(app.client(), &body, "status").await;
        assert!(detail.contains(r#""deleted""#) && detail.contains(r#""new""#), "{detail}");
    }
    let nothing_to_delete = format!(r#"{{"user_id":"{USER}","status":"deleted"}}"#);
    refused(app.client(), &nothing_to_delete, "order_id").await;
    let traffic = app.finish().await;
    assert_eq!(traffic.events.len(), 1, "a refused write publishes no event");
}

pub(super) async fn unknown_fields_and_media_types_are_ignored<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let body = format!(r#"{{"extra":[1,{{"a":null}}],"user_id":"{USER}","payload":{{}},"amount":9}}"#);
    for media_type in ["application/json", "text/plain", "application/xml; charset=latin1", "nonsense"] {
        let answer =
            app.client().request("POST", "/orders", &[("content-type", media_type)], body.clone()).await;
        let id = accepted(&answer, 201, "created");
        assert_eq!(member(&order(app.client(), &id).await, "amount"), "0");
    }
    accepted(&app.client().request("POST", "/orders", &[], body).await, 201, "created");
    app.finish().await;
}
