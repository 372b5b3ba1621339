//! Lists of orders: every parameter of a query, the pages and the links between them, and the parameters that are
//! refused. A page keeps its orders while new ones arrive.

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

/// The orders of a page, as text.
fn page_orders(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let orders: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(&member(answer.text(), "orders")).expect("a list of orders");
    orders.iter().map(|order| order.get().to_owned()).collect()
}

fn ids(orders: &[String]) -> Vec<String> {
    orders.iter().map(|order| member(order, "order_id")).collect()
}

/// The target of a link of an answer.
fn link(answer: &Answer, rel: &str) -> Option<String> {
    let links = answer.header("link").expect("links");
    let link = links.split(", ").find(|link| link.ends_with(&format!("; rel=\"{rel}\"")))?;
    Some(link.split_once('<').expect("a target").1.split_once('>').expect("its end").0.to_owned())
}

/// All orders of a list, from that page on.
async fn all_orders(client: &Client, path: &str) -> Vec<String> {
    let (mut orders, mut path) = (Vec::new(), path.to_owned());
    loop {
        let answer = client.get(&path).await;
        orders.extend(page_orders(&answer));
        match link(&answer, "next") {
            Some(next) => {
                let cursor = member(answer.text(), "next_cursor");
                assert!(next.ends_with(&format!("cursor={cursor}")), "{next}");
                path = next;
            }
            None => {
                assert_eq!(names(answer.text()), ["orders"]);
                return orders;
            }
        }
    }
}

async fn delete(client: &Client, id: &str) {
    let body = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
    assert_eq!(client.post("/orders", body).await.status, 200);
}

pub(super) async fn a_list_shows_the_newest_orders_first_and_each_as_stored<B: Backend>() {
    let app = B::start(Setup::new()).await;
    assert_eq!(app.client().get("/orders").await.text(), r#"{"orders":[]}"#);
    let mut expected = Vec::new();
    for payload in [r#"{"amount":12.30}"#, r#"{"id":12345678901234567890,"amount":0.10}"#, "[]"] {
        let id = create(app.client(), payload).await;
        expected.insert(0, order(app.client(), &id).await);
    }
    for path in
        ["/orders", "/orders/", "/orders?", &format!("/orders?user_id={}&unknown=%", USER.to_uppercase())]
    {
        assert_eq!(all_orders(app.client(), path).await, expected, "{path}");
    }
    let head = app.client().request("HEAD", "/orders", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    app.finish().await;
}

pub(super) async fn a_list_holds_the_orders_that_match_all_parameters<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let of_user = create(app.client(), r#"{"id":"a +&/Ж"}"#).await;
    let body = format!(r#"{{"user_id":"{STRANGER}","payload":{{"id":"a +&/Ж"}}}}"#);
    let of_stranger = member(app.client().post("/orders", body).await.text(), "order_id");
    let other = create(app.client(), r#"{"id":"b"}"#).await;
    let deleted = create(app.client(), r#"{"id":"b"}"#).await;
    delete(app.client(), &deleted).await;
    let at = member(&order(app.client(), &other).await, "created_at");
    // The same time with the offset of another time zone.
    let moment: jiff::Timestamp = at.parse().expect("a time");
    let with_offset = moment.display_with_offset(jiff::tz::offset(2)).to_string();
    let with_offset = [with_offset.replace('+', "%2B"), with_offset];
    let external = "a%20%2B%26%2f%D0%96";
    for (query, expected) in [
        (String::new(), vec![&other, &of_stranger, &of_user]),
        ("show_deleted=false".to_owned(), vec![&other, &of_stranger, &of_user]),
        ("show_deleted=true".to_owned(), vec![&deleted, &other, &of_stranger, &of_user]),
        ("status=deleted".to_owned(), vec![&deleted]),
        ("status=deleted&show_deleted=false".to_owned(), vec![&deleted]),
        ("status=done".to_owned(), vec![&other, &of_stranger, &of_user]),
        ("status=failed".to_owned(), vec![]),
        (format!("user_id={STRANGER}"), vec![&of_stranger]),
        (format!("user_id={USER}&external_id={external}"), vec![&of_user]),
        (format!("user_id={USER}&external_id=a+%2B%26/%D0%96"), vec![&of_user]),
        (format!("user_id={USER}&external_id=b"), vec![&other]),
        (format!("user_id={USER}&external_id=b&show_deleted=true"), vec![&deleted, &other]),
        (format!("user_id={STRANGER}&external_id=b"), vec![]),
        (format!("created_after={at}"), vec![&other]),
        (format!("created_after={at}&show_deleted=true"), vec![&deleted, &other]),
        (format!("created_before={at}"), vec![&of_stranger, &of_user]),
        (format!("created_before={at}&user_id={USER}&status=done"), vec![&of_user]),
        (format!("created_after={at}&created_before={at}"), vec![]),
        (format!("created_after={}", with_offset[0]), vec![&other]),
        (format!("created_after={}", with_offset[1]), vec![&other]),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&all_orders(app.client(), &format!("/orders?{query}")).await), expected, "{query}");
    }
    app.finish().await;
}

pub(super) async fn the_links_lead_through_all_pages<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut expected = Vec::new();
    for number in 0..7 {
        let id = create(app.client(), &format!(r#"{{"id":"{}"}}"#, number % 2)).await;
        expected.insert(0, id);
        let body = format!(r#"{{"user_id":"{STRANGER}","payload":{{}}}}"#);
        app.client().post("/orders", body).await;
    }
    for limit in [1, 2, 7, 200] {
        let path = format!("/orders?unknown=1&user_id={USER}&limit={limit}");
        assert_eq!(ids(&all_orders(app.client(), &path).await), expected, "{limit}");
    }
    let even: Vec<String> = expected.iter().step_by(2).cloned().collect();
    let path = format!("/orders?user_id={USER}&limit=1&external_id=0");
    assert_eq!(ids(&all_orders(app.client(), &path).await), even);

    // A page in the middle links to the first one, and orders created meanwhile do not shift the pages.
    let path = format!("/orders?user_id={USER}&limit=3");
    let first = app.client().get(&path).await;
    let newer = create(app.client(), "{}").await;
    let second = app.client().get(&link(&first, "next").expect("more orders")).await;
    assert_eq!([ids(&page_orders(&first)), ids(&page_orders(&second))].concat(), expected[..6]);
    assert_eq!(link(&second, "first").as_deref(), Some(path.as_str()));
    let again = app.client().get(&link(&second, "first").expect("a link to the first page")).await;
    assert_eq!(ids(&page_orders(&again))[0], newer);
    app.finish().await;
}

pub(super) async fn an_invalid_parameter_of_a_list_is_a_400<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let page = format!("/orders?user_id={USER}&user_id={USER}");
    let detail = problem(&app.client().get(&page).await, "invalid_request");
    assert!(detail.starts_with("user_id: "), "{detail}");
    for (name, values) in [
        ("user_id", &["", "me", "%FF", "%"][..]),
        ("status", &["", "shipped", "Done", "new,done", "done&status=done"]),
        ("external_id", &["A-1"]),
        ("created_after", &["", "now", "2026-01-31", "2026-01-31T12:00:00", "1769860800"]),
        ("created_before", &["", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00Z&created_before="]),
        ("limit", &["", "0", "201", "-1", "1.5", "all", "1&limit=2"]),
        ("cursor", &["", "0", "next", "2", "%00"]),
        ("show_deleted", &["", "1", "yes", "True"]),
    ] {
        for value in values {
            let answer = app.client().get(&format!("/orders?{name}={value}")).await;
            let detail = problem(&answer, "invalid_request");
            assert!(detail.starts_with(&format!("{name}: ")), "{name}={value}: {detail}");
        }
    }
    for value in ["", "%00", "%FF", "a&external_id=a"] {
        let answer = app.client().get(&format!("/orders?user_id={USER}&external_id={value}")).await;
        let detail = problem(&answer, "invalid_request");
        assert!(detail.starts_with("external_id: "), "{value}: {detail}");
    }
    app.finish().await;
}
