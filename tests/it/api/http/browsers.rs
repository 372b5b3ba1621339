//! Browsers: pages of other sites change nothing, and read nothing under a host name of their own, unless the settings
//! allow them to. The checks cover the origin, the `Host` header and CORS.

use orderstream::config::Settings;

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, order, problem};
use crate::clients::http::{Answer, raw};
use crate::clients::stream::Stream;
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

const SHOP: &str = "https://shop.example";

fn with_cors(settings: &mut Settings) {
    settings.cors_allowed_origins = vec![SHOP.to_owned()];
}

pub(super) async fn a_change_from_a_page_of_another_site_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let before = order(app.client(), &id).await;
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    let of_order = format!("/orders/{id}");
    let evil = "https://evil.example";
    for headers in [
        &[("origin", evil), ("content-type", "text/plain")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://localhost")],
    ] {
        for (method, path) in [
            ("POST", "/orders"),
            ("POST", "/orders:batch"),
            ("POST", "/orders%3Abatch/"),
            ("PUT", &of_order),
            ("DELETE", &of_order),
            ("DELETE", "/nothing"),
        ] {
            let answer = app.client().request(method, path, headers, content.clone()).await;
            let detail = problem(&answer, "cross_site_request");
            assert!(detail.starts_with("Origin: ") && detail.contains("CORS_ALLOWED_ORIGINS"), "{detail}");
        }
        // Reading is safe, and the page cannot read the answer.
        let shown = app.client().request("GET", &of_order, headers, "").await;
        assert_eq!((shown.status, shown.header("access-control-allow-origin")), (200, None));
    }
    assert_eq!(order(app.client(), &id).await, before);
    // The service's own page, and callers that are not browsers.
    for headers in
        [&[("sec-fetch-site", "same-origin"), ("origin", evil)][..], &[("origin", "http://localhost")], &[]]
    {
        let answer = app.client().request("POST", "/orders", headers, content.clone()).await;
        assert_eq!(answer.status, 201, "{headers:?}: {answer:?}");
    }
    app.finish().await;
}

/// A request with these header lines, and nothing else.
async fn send<B: Backend>(app: &B, line: &str, headers: &str) -> Answer {
    let request = format!("{line}\r\n{headers}connection: close\r\n\r\n");
    Answer::read(&raw(app.client().address(), request.as_bytes()).await)
}

pub(super) async fn an_unknown_host_name_is_a_421<B: Backend>() {
    let named = |settings: &mut Settings| settings.allowed_hosts = vec!["*.orders.example".to_owned()];
    let app = B::start(Setup::new().settings(named)).await;
    let paths =
        ["/health", "/health/ready", "/orders", "/nothing", "/docs", &format!("/orders/{UNKNOWN_ID}")];
    for path in paths {
        let line = format!("GET {path} HTTP/1.1");
        for host in ["evil.example", "evil.example:80", "orders.example", "localhost.evil.example"] {
            let detail =
                problem(&send(&app, &line, &format!("host: {host}\r\n")).await, "misdirected_request");
            assert!(detail.starts_with("Host: ") && detail.contains("ALLOWED_HOSTS"), "{detail}");
        }
        let answer =
            send(&app, &format!("GET http://evil.example{path} HTTP/1.1"), "host: localhost\r\n").await;
        problem(&answer, "misdirected_request");
    }
    for host in ["localhost", "127.0.0.1:8080", "[::1]", "192.0.2.7", "LOCALHOST:9", "eu.orders.example:443"]
    {
        assert_eq!(
            send(&app, "GET /health HTTP/1.1", &format!("host: {host}\r\n")).await.status,
            200,
            "{host}"
        );
    }
    assert_eq!(send(&app, "GET http://127.0.0.1/health HTTP/1.1", "host: 127.0.0.1\r\n").await.status, 200);
    // Pages under another host name cannot write either.
    let answer =
        send(&app, "POST /orders HTTP/1.1", "host: evil.example\r\norigin: http://evil.example\r\n").await;
    problem(&answer, "misdirected_request");
    app.finish().await;
}

pub(super) async fn a_request_of_http_1_1_names_one_valid_host<B: Backend>() {
    let app = B::start(Setup::new().settings(|settings| settings.bind = [0, 0, 0, 0].into())).await;
    for headers in
        ["", "host: a\r\nhost: a\r\n", "host: \r\n", "host: a b\r\n", "host: a:port\r\n", "host: u@a\r\n"]
    {
        let detail = problem(&send(&app, "GET /health HTTP/1.1", headers).await, "invalid_request");
        assert!(detail.starts_with("Host: "), "{headers}: {detail}");
    }
    // Bound to all addresses and without allowed hosts, the service accepts every host name.
    assert_eq!(send(&app, "GET /health HTTP/1.1", "host: any.example\r\n").await.status, 200);
    let old = raw(app.client().address(), b"GET /health HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with(b"HTTP/1.0 200 ") || old.starts_with(b"HTTP/1.1 200 "), "{old:?}");
    app.finish().await;
}

pub(super) async fn pages_of_an_allowed_origin_may_read_and_write<B: Backend>() {
    let app = B::start(Setup::new().settings(with_cors)).await;
    let id = create(app.client(), "[1]").await;
    let origin = ("origin", SHOP);
    let preflight_headers =
        [origin, ("access-control-request-method", "PUT"), ("access-control-request-headers", "prefer")];
    let path = format!("/orders/{id}");
    for path in [&path, "/orders", "/nothing"] {
        let preflight = app.client().request("OPTIONS", path, &preflight_headers, "").await;
        assert_eq!((preflight.status, preflight.body.len()), (204, 0), "{preflight:?}");
        assert_eq!(preflight.header("access-control-allow-origin"), Some(SHOP));
        assert!(preflight.header("access-control-allow-methods").is_some_and(|all| all.contains("PUT")));
        assert!(preflight.header("access-control-allow-headers").is_some_and(|all| all.contains('*')));
        assert!(preflight.header("vary").is_some_and(|vary| vary.contains("Origin")));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
    }
    // Without the header of a preflight, `OPTIONS` is a method that the path does not have.
    problem(&app.client().request("OPTIONS", &path, &[origin], "").await, "method_not_allowed");

    let cross_site = [origin, ("sec-fetch-site", "cross-site")];
    let content = format!(r#"{{"user_id":"{USER}","payload":[2]}}"#);
    for (method, path, body, status) in [
        ("GET", path.as_str(), "", 200),
        ("PUT", &path, &content, 200),
        ("POST", "/orders", &content, 201),
        ("POST", "/orders", "[", 400),
        ("GET", "/nothing", "", 404),
    ] {
        let answer = app.client().request(method, path, &cross_site, body.to_owned()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
        let exposed = answer.header("access-control-expose-headers").expect("exposed headers");
        for name in ["etag", "location", "link", "retry-after", "x-request-id", "preference-applied"] {
            assert!(exposed.contains(name), "{name} in {exposed}");
        }
        assert!(answer.header("vary").is_some_and(|vary| vary.contains("Origin")), "{answer:?}");
    }
    for origin in ["https://evil.example", "http://shop.example", "null"] {
        let answer = app.client().request("GET", &path, &[("origin", origin)], "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
        assert_eq!(answer.header("vary"), Some("Origin"), "a cache keeps the two answers apart");
        problem(
            &app.client().request("POST", "/orders", &[("origin", origin)], "{}").await,
            "cross_site_request",
        );
    }
    drop(Stream::open(app.client().address(), &format!("{path}/events"), None).await);
    app.finish().await;
}
