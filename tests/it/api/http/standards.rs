//! What the standards of HTTP require of every answer: how long a cache may keep it, which headers it varies with,
//! which paths are equal, and that encoded bodies are refused.

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

pub(super) async fn every_answer_names_its_cache_policy_and_forbids_content_sniffing<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"kept"}"#).await;
    let of_order = format!("/orders/{id}");
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    for (method, path, body, policy) in [
        ("GET", of_order.as_str(), "", "private, no-cache"),
        ("HEAD", &of_order, "", "private, no-cache"),
        ("GET", "/openapi.json", "", "no-cache"),
        ("GET", "/docs", "", "no-cache"),
        ("GET", "/orders", "", "no-store"),
        ("GET", &format!("{of_order}/history"), "", "no-store"),
        ("GET", "/health", "", "no-store"),
        ("GET", "/health/ready", "", "no-store"),
        ("GET", "/nothing", "", "no-store"),
        ("GET", &format!("/orders/{UNKNOWN_ID}"), "", "no-store"),
        ("PATCH", "/orders", "", "no-store"),
        ("POST", "/orders", "[", "no-store"),
        ("POST", "/orders", &content, "no-store"),
        ("PUT", &of_order, &content, "no-store"),
        ("POST", "/orders:batch", &format!(r#"{{"orders":[{content}]}}"#), "no-store"),
        ("DELETE", &of_order, "", "no-store"),
    ] {
        let answer = app.client().request(method, path, &[], body.to_owned()).await;
        assert_eq!(answer.header("cache-control"), Some(policy), "{method} {path}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
    }
    app.finish().await;
}

pub(super) async fn the_media_type_of_an_answer_follows_the_weights_of_accept<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let of_order = format!("/orders/{id}");
    assert_eq!(app.client().request("DELETE", &of_order, &[], "").await.header("vary"), Some("Accept"));
    for (accept, health, deleted) in [
        ("application/json, text/plain, */*", "application/json", "application/json"),
        ("*/*", "application/json", "application/json"),
        ("image/png", "application/json", "application/json"),
        ("text/plain", "text/plain; charset=utf-8", "application/json"),
        (
            "text/*;q=0.5, application/problem+json;q=0.1",
            "text/plain; charset=utf-8",
            "application/problem+json",
        ),
        (
            "text/plain;q=0, application/problem+json, */*;q=0.1",
            "application/json",
            "application/problem+json",
        ),
        ("text/plain;q=0.3, application/json;q=0.2", "text/plain; charset=utf-8", "application/json"),
    ] {
        let headers = [("accept", accept)];
        for method in ["GET", "HEAD"] {
            let answer = app.client().request(method, "/health", &headers, "").await;
            assert_eq!(answer.header("content-type"), Some(health), "{accept}");
            assert_eq!(answer.header("vary"), Some("Accept"));
        }
        let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
        let update = format!(r#"{{"order_id":"{id}","payload":[2]}}"#);
        for (method, path, body) in [
            ("POST", "/orders", update),
            ("PUT", of_order.as_str(), content),
            ("DELETE", &of_order, String::new()),
        ] {
            let answer = app.client().request(method, path, &headers, body).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (409, Some(deleted)),
                "{method} {accept}"
            );
            assert_eq!(answer.header("vary"), Some("Accept"), "{method}");
        }
    }
    assert_eq!(app.client().get(&of_order).await.header("vary"), None);
    app.finish().await;
}

pub(super) async fn paths_that_differ_in_needless_encoding_are_equal<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"id":"a/b:c~d"}"#).await;
    let batch = format!(r#"{{"orders":[{{"order_id":"{id}","payload":{{"id":"a/b:c~d"}}}}]}}"#);
    for path in ["/orders%3Abatch", "/orders%3abatch/", "/%6Frders:batch"] {
        assert_eq!(app.client().post(path, batch.clone()).await.status, 207, "{path}");
    }
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in [format!("/orders/{encoded}"), format!("/%6f%72ders/{id}/")] {
        assert_eq!(member(app.client().get(&path).await.text(), "order"), order(app.client(), &id).await);
    }
    assert_eq!(app.client().get("/%68ealth").await.status, 200);
    for path in ["a%2Fb%3Ac~d", "a%2Fb:c%7Ed", "%61%2fb:c~d"] {
        let found = app.client().get(&format!("/orders/by-external/{path}?user_id={USER}")).await;
        assert_eq!(found.status, 200, "{path}");
    }
    // An encoded slash does not separate parts of a path.
    problem(&app.client().get(&format!("/orders%2F{id}")).await, "route_not_found");
    app.finish().await;
}

pub(super) async fn an_encoded_body_is_a_415<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    let of_order = format!("/orders/{id}");
    for (method, path) in [("POST", "/orders"), ("POST", "/orders:batch"), ("PUT", &*of_order)] {
        for coding in ["gzip", "br", "identity, deflate"] {
            let answer =
                app.client().request(method, path, &[("content-encoding", coding)], content.clone()).await;
            let detail = problem(&answer, "unsupported_content_encoding");
            assert!(detail.starts_with("Content-Encoding: "), "{detail}");
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
    }
    let plain = [("content-encoding", "identity")];
    assert_eq!(app.client().request("POST", "/orders", &plain, content).await.status, 201);
    // Without a body the header has no effect.
    assert_eq!(app.client().request("GET", &of_order, &[("content-encoding", "gzip")], "").await.status, 200);
    app.finish().await;
}

pub(super) async fn a_link_that_is_too_long_is_omitted<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for _ in 0..2 {
        create(app.client(), "[1]").await;
    }
    // An unknown parameter stays in the links.
    let page = |length: usize| format!("/orders?limit=1&x={}", "x".repeat(length));
    let short = app.client().get(&page(10)).await;
    assert!(short.header("link").is_some_and(|link| link.contains(r#"rel="next""#)), "{short:?}");
    for length in [1_000, 2_000, 3_000, 4_000, 8_000, 30_000] {
        let answer = app.client().get(&page(length)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("link").is_none_or(|link| link.len() < 4_000), "{length}");
        assert!(!member(answer.text(), "next_cursor").is_empty());
    }
    app.finish().await;
}

pub(super) async fn an_instance_is_a_uri_reference<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for (id, instance) in [
        ("checkout-7", "checkout-7"),
        ("a:b", "a%3Ab"),
        ("a/b:c", "a/b:c"),
        ("//a", "/%2Fa"),
        (r#"<"%41">"#, "%3C%22%2541%22%3E"),
        ("a#b[c]", "a%23b%5Bc%5D"),
    ] {
        let answer = app.client().request("GET", "/nothing", &[("x-request-id", id)], "").await;
        assert_eq!(member(answer.text(), "instance"), instance);
        assert_eq!(answer.header("x-request-id"), Some(id), "the header stays as it was sent");
    }
    app.finish().await;
}
