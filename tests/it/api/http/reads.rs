//! Reading orders: the members of an order, the two ways to find one, and numbers that are not rounded. Numbers are
//! compared as text, because a parser of JSON may round numbers.

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, members, names, order, problem, time};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

pub(super) async fn an_order_has_its_members_in_their_order<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":12.30}"#).await;
    let shown = order(app.client(), &id).await;
    let eight = ["order_id", "user_id", "amount", "status", "payload", "created_at", "updated_at", "bucket"];
    assert_eq!(names(&shown), [&eight[..], &["version"]].concat());
    let shown: Vec<(String, String)> = members(&shown);
    let value = |at: usize| shown[at].1.trim_matches('"');
    assert_eq!((value(0), value(1)), (id.as_str(), USER));
    assert_eq!((shown[2].1.as_str(), shown[3].1.as_str()), ("12.30", "\"done\""), "a number, and a text");
    assert_eq!(members(&shown[4].1), [("amount".to_owned(), "12.30".to_owned())]);
    for at in [5, 6] {
        let (_, fraction) = value(at).split_once('.').unwrap_or(("", "Z"));
        assert!(fraction.len() <= "123456Z".len(), "finer than microseconds: {}", value(at));
    }
    assert!(time(value(5)) <= time(value(6)));
    assert!((0..4).contains(&value(7).parse::<i32>().expect("a number")));
    assert_eq!(value(8), "1");
    app.finish().await;
}

pub(super) async fn an_order_is_read_by_any_form_of_its_id<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "{}").await;
    let plain = order(app.client(), &id).await;
    for form in [
        id.to_uppercase(),
        id.replace('-', ""),
        format!("urn:uuid:{id}"),
        format!("urn%3Auuid%3A{id}"),
        format!("%7B{id}%7D"),
    ] {
        assert_eq!(order(app.client(), &form).await, plain, "{form}");
    }
    for invalid in ["abc", "0", &id[1..], "%20", &format!("{id}%20"), "by-external"] {
        let detail = problem(&app.client().get(&format!("/orders/{invalid}")).await, "invalid_request");
        assert!(detail.starts_with("order_id: "), "{detail}");
    }
    problem(&app.client().get(&format!("/orders/{UNKNOWN_ID}")).await, "order_not_found");
    app.finish().await;
}

pub(super) async fn an_external_id_finds_the_newest_order_of_its_user<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let find = async |external_id: &str, user: &str| {
        app.client().get(&format!("/orders/by-external/{external_id}?user_id={user}")).await
    };
    let first = create(app.client(), r#"{"id":"A-1"}"#).await;
    let second = create(app.client(), r#"{"id":"A-1"}"#).await;
    let of_stranger = format!(r#"{{"user_id":"{STRANGER}","payload":{{"id":"A-1"}}}}"#);
    let of_stranger = member(app.client().post("/orders", of_stranger).await.text(), "order_id");
    let found = find("A-1", USER).await;
    assert_eq!(found.header("content-type"), Some("application/json"));
    assert_eq!(names(found.text()), ["order"]);
    assert_eq!(member(found.text(), "order"), order(app.client(), &second).await);
    let uppercase = find("A-1", &USER.to_uppercase()).await;
    assert_eq!(member(uppercase.text(), "order"), order(app.client(), &second).await);
    assert_eq!(member(find("A-1", STRANGER).await.text(), "order"), order(app.client(), &of_stranger).await);

    // The newest order is the one created last: a later update of the first does not make it the newest.
    let update = format!(r#"{{"order_id":"{first}","payload":{{"id":"A-1","again":true}}}}"#);
    assert_eq!(app.client().post("/orders", update).await.status, 200);
    assert_eq!(member(find("A-1", USER).await.text(), "order"), order(app.client(), &second).await);

    // After an update that removes the id, the older order is found.
    let update = format!(r#"{{"order_id":"{second}","payload":{{"id":"B-2"}}}}"#);
    assert_eq!(app.client().post("/orders", update).await.status, 200);
    assert_eq!(member(find("A-1", USER).await.text(), "order"), order(app.client(), &first).await);
    assert_eq!(member(find("B-2", USER).await.text(), "order"), order(app.client(), &second).await);

    for unknown in ["a-1", "A-", "nothing"] {
        let answer = find(unknown, USER).await;
        problem(&answer, "order_not_found");
        assert!(!names(answer.text()).contains(&"order_id".to_owned()));
    }
    app.finish().await;
}

pub(super) async fn an_external_id_may_hold_any_text_or_number<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let long = "x".repeat(4096);
    let long_id = format!("\"{long}\"");
    for (id, path) in [
        (r#""plain""#, "plain"),
        (r#""a b""#, "a%20b"),
        (r#""a/b/c""#, "a%2Fb%2fc"),
        (r#""100%""#, "100%25"),
        (r#""%2F""#, "%252F"),
        (r#""a+b""#, "a+b"),
        (r#""?#&=""#, "%3F%23%26%3D"),
        (r#""..""#, "%2E%2E"),
        (r#""Заказ № 7 🦀""#, "%D0%97%D0%B0%D0%BA%D0%B0%D0%B7%20%E2%84%96%207%20%F0%9F%A6%80"),
        ("1000000", "1000000"),
        ("1e6", if B::KEEPS_TEXT { "1e6" } else { "1000000" }),
        ("-1.50", "-1.50"),
        ("12345678901234567890", "12345678901234567890"),
        (&long_id, &long),
    ] {
        let created = create(app.client(), &format!(r#"{{"id":{id}}}"#)).await;
        let found = app.client().get(&format!("/orders/by-external/{path}?user_id={USER}")).await;
        assert_eq!(found.status, 200, "{id}: {found:?}");
        assert_eq!(member(&member(found.text(), "order"), "order_id"), created, "{id}");
    }
    app.finish().await;
}

pub(super) async fn a_search_without_a_user_is_a_400<B: Backend>() {
    let app = B::start(Setup::new()).await;
    create(app.client(), r#"{"id":"A-1"}"#).await;
    let twice = format!("?user_id={USER}&user_id={USER}");
    for query in ["", "?", "?user_id", "?user_id=", "?user_id=me", "?user=1", "?user_id=%FF", &twice] {
        let answer = app.client().get(&format!("/orders/by-external/A-1{query}")).await;
        let detail = problem(&answer, "invalid_request");
        assert!(detail.starts_with("user_id: "), "{query}: {detail}");
    }
    app.finish().await;
}

pub(super) async fn digits_are_kept<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let payload = r#"{"id":12345678901234567890,"price":0.1,"qty":3}"#;
    let digits = |text: &str, names: &[&str]| names.iter().map(|name| member(text, name)).collect::<Vec<_>>();
    let id = create(app.client(), payload).await;
    let shown = order(app.client(), &id).await;
    let expected = ["12345678901234567890", "0.1", "3"];
    assert_eq!(digits(&member(&shown, "payload"), &["id", "price", "qty"]), expected);
    let event = app.events(&id, 1).await.remove(0);
    let event = member(str::from_utf8(&event.value).expect("text"), "payload");
    assert_eq!(digits(&event, &["id", "price", "qty"]), expected);

    let sum = create(app.client(), &format!(r#"{{"items":[{payload},{{"price":0.2}}]}}"#)).await;
    assert_eq!(member(&order(app.client(), &sum).await, "amount"), "0.5", "exactly, not 0.50000000000000004");
    let many = "9".repeat(60);
    let large = create(app.client(), &format!(r#"{{"amount":{many}.{many}}}"#)).await;
    let shown = order(app.client(), &large).await;
    assert_eq!(member(&shown, "amount"), format!("{many}.{many}"));
    assert_eq!(member(&member(&shown, "payload"), "amount"), format!("{many}.{many}"));
    app.finish().await;
}
