//! The service apart from the orders: health, the routes and their methods, the pages of the problems, and the ids of
//! requests. The list of problems is the table in the program, so a new problem is tested without a change here.

use std::collections::BTreeSet;

use orderstream::api::problem::TABLE;

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, members, problem};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

pub(super) async fn health_answers_as_json_and_as_plain_text<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for path in ["/health", "/health/live"] {
        let answer = app.client().get(path).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let plain = app.client().request("GET", "/health", &[("accept", "text/plain")], "").await;
    assert_eq!((plain.status, plain.text()), (200, "ok"));
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    let ready = app.client().get("/health/ready").await;
    assert_eq!((ready.status, ready.text()), (200, r#"{"status":"ready","store":"ok","bus":"ok"}"#));
    app.finish().await;
}

pub(super) async fn every_route_accepts_a_trailing_slash<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"a b"}}}}"#);
    let created = app.client().post("/orders/", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = member(created.text(), "order_id");
    for path in every_get(&id) {
        let (path, query) = path.split_once('?').map_or((path.as_str(), ""), |(path, query)| (path, query));
        let plain = app.client().get(&format!("{path}?{query}")).await;
        let slashed = app.client().get(&format!("{path}/?{query}")).await;
        assert_eq!((plain.status, slashed.status), (200, 200), "{path}");
        assert_eq!(plain.body, slashed.body, "{path}");
    }
    app.finish().await;
}

pub(super) async fn head_is_get_without_the_body<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"a b"}"#).await;
    let mut paths = every_get(&id);
    paths.extend([format!("/orders/{UNKNOWN_ID}"), "/orders/abc".to_owned(), "/nothing".to_owned()]);
    for path in paths {
        let get = app.client().get(&path).await;
        let head = app.client().request("HEAD", &path, &[], "").await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
    app.finish().await;
}

fn every_get(id: &str) -> Vec<String> {
    let mut paths = vec![
        format!("/orders/{id}"),
        format!("/orders/by-external/a%20b?user_id={USER}"),
        "/health".to_owned(),
        "/health/live".to_owned(),
        "/health/ready".to_owned(),
    ];
    paths.extend(TABLE.iter().map(|kind| format!("/problems/{}", kind.code)));
    paths
}

pub(super) async fn an_unknown_path_is_a_404<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for path in ["/", "/nothing", "/ORDERS", "/orders/by-external/a/b", "/problems/none", "/health/up"] {
        for method in ["GET", "POST", "DELETE"] {
            // A path of this shape is known, and accepts GET alone.
            if method == "GET" || !path.starts_with("/problems") {
                problem(&app.client().request(method, path, &[], "").await, "route_not_found");
            }
        }
    }
    app.finish().await;
}

pub(super) async fn a_wrong_method_is_a_405_that_names_the_allowed_ones<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let get = BTreeSet::from(["GET", "HEAD"]);
    let mut routes = vec![("/orders".to_owned(), BTreeSet::from(["GET", "HEAD", "POST"]))];
    routes.push(("/orders:batch".to_owned(), BTreeSet::from(["POST"])));
    let order = format!("/orders/{UNKNOWN_ID}");
    let others = every_get(UNKNOWN_ID).into_iter().filter(|path| *path != order);
    routes.extend(others.map(|path| (path, get.clone())));
    routes.push((order.clone(), BTreeSet::from(["DELETE", "GET", "HEAD", "PUT"])));
    for (path, allowed) in routes {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if !allowed.contains(method) {
                let answer = app.client().request(method, &path, &[], "{}").await;
                problem(&answer, "method_not_allowed");
                let allow = answer.header("allow").expect("an Allow header");
                assert_eq!(
                    allow.split(',').map(str::trim).collect::<BTreeSet<_>>(),
                    allowed,
                    "{method} {path}"
                );
            }
        }
    }
    app.finish().await;
}

pub(super) async fn every_problem_has_a_page<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for kind in TABLE {
        let answer = app.client().get(&format!("/problems/{}", kind.code)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let quoted = |text: &str| format!("\"{text}\"");
        let page = [
            ("code", quoted(kind.code)),
            ("status", kind.status.to_string()),
            ("grpc", quoted(kind.grpc_name())),
            ("title", quoted(kind.title)),
            ("retryable", kind.retryable.to_string()),
        ];
        assert_eq!(members(answer.text()), page.map(|(name, value)| (name.to_owned(), value)));
    }
    app.finish().await;
}

pub(super) async fn a_request_keeps_its_id_or_gets_one<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let send = async |id: &str| {
        let answer = app.client().request("GET", "/nothing", &[("x-request-id", id)], "").await;
        // Compares the problem's instance with the header.
        problem(&answer, "route_not_found");
        answer.header("x-request-id").expect("an id").to_owned()
    };
    let longest = "x".repeat(128);
    for id in ["7", "a-B_c.9/~!", &longest] {
        assert_eq!(send(id).await, id);
    }
    let too_long = "x".repeat(129);
    let mut generated = BTreeSet::new();
    for id in ["", "two words", &too_long] {
        let given = send(id).await;
        assert_ne!(given, id);
        assert!(generated.insert(given), "an id was given twice");
    }
    let healthy = app.client().request("GET", "/health", &[("x-request-id", "me")], "").await;
    assert_eq!(healthy.header("x-request-id"), Some("me"));
    assert!(app.client().get("/health").await.header("x-request-id").is_some_and(|id| !id.is_empty()));
    app.finish().await;
}
