//! Invalid input. The answer is a 4xx that says where the fault is, or the documented success, but never a 5xx and
//! never a changed digit. After each request the process still answers that it is alive.

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Answer, raw};
use crate::harness::app::TestApp;

/// A creation with that payload.
fn with_payload(payload: &str) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#)
}

/// A creation with that text as `payload_json`.
fn with_text(payload: &str) -> String {
    let quoted = serde_json::to_string(payload).expect("a string that can be quoted");
    format!(r#"{{"user_id":"{USER}","payload_json":{quoted}}}"#)
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

impl TestApp {
    /// Posts, and asserts that the process is alive afterwards.
    async fn post_and_check(&self, body: impl Into<hyper::body::Bytes>) -> Answer {
        let answer = self.client.post("/orders", body).await;
        self.assert_alive().await;
        answer
    }

    async fn assert_alive(&self) {
        assert_eq!(self.client.get("/health/live").await.status, 200);
    }

    /// Asserts a 400 whose detail names the field and a position in it.
    async fn refuses(&self, body: impl Into<hyper::body::Bytes>, field: &str, position: &str) {
        let answer = self.post_and_check(body).await;
        let detail = problem(&answer, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")) && detail.contains(position), "{detail}");
    }
}

#[tokio::test]
async fn nesting_is_bounded_in_all_parts_of_a_body() {
    let app = TestApp::embedded().start().await;
    for depth in [128, 10_000, 300_000] {
        let deep = nested(depth);
        app.refuses(with_payload(&deep), "body", "line 1 column").await;
        app.refuses(with_text(&deep), "payload_json", "line 1 column").await;
        app.refuses(format!(r#"{{"user_id":"{USER}","payload":{{}},"x":{deep}}}"#), "body", "line 1 column")
            .await;
        app.refuses(deep, "body", "").await;
    }
    // Of 128 levels, the request's own object is one, and its content has 127.
    let deepest = nested(127);
    for body in [
        with_payload(&deepest),
        with_text(&deepest),
        format!(r#"{{"user_id":"{USER}","payload":{{}},"x":{deepest}}}"#),
        with_payload(&format!("\"{}\"", "[{".repeat(10_000))),
        with_payload(&format!(r#""\"{}""#, "[{".repeat(10_000))),
    ] {
        assert_eq!(app.post_and_check(body).await.status, 201);
    }
    app.refuses("[".repeat(10_000), "body", "").await;
    app.refuses(r#"{"a":"#.repeat(10_000), "body", "").await;
    app.finish().await;
}

#[tokio::test]
async fn a_number_is_kept_as_written_or_refused() {
    let app = TestApp::embedded().start().await;
    for number in
        ["-0", "0.10", "1e300", "12345678901234567890", "-98765432109876543210", "1.0E+2", "1e-400", "0e400"]
    {
        for body in
            [with_payload(&format!(r#"{{"n":{number}}}"#)), with_text(&format!(r#"{{"n":{number}}}"#))]
        {
            let answer = app.post_and_check(body).await;
            assert_eq!(answer.status, 201, "{number}: {answer:?}");
            let shown = order(&app.client, &member(answer.text(), "order_id")).await;
            assert_eq!(member(&shown, "payload"), format!(r#"{{"n":{number}}}"#));
        }
    }
    for number in
        ["1e400", "-1e400", "1e99999999999999999999", "01", "+1", ".5", "1.", "0x10", "NaN", "Infinity"]
    {
        let position = "line 1 column";
        app.refuses(with_text(&format!(r#"{{"n":{number}}}"#)), "payload_json", position).await;
        let answer = app.post_and_check(with_payload(&format!(r#"{{"n":{number}}}"#))).await;
        assert!(problem(&answer, "invalid_request").contains(position), "{number}");
    }
    app.finish().await;
}

#[tokio::test]
async fn the_last_of_two_equal_keys_counts_and_the_payload_keeps_both() {
    let app = TestApp::embedded().start().await;
    let body = format!(
        r#"{{"user_id":"{STRANGER}","payload":{{"id":"first"}},"status":"deleted","user_id":"{USER}","status":"new",
            "payload":{{"id":"one","amount":1,"id":"two","amount":2}}}}"#
    );
    let answer = app.post_and_check(body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let shown = order(&app.client, &member(answer.text(), "order_id")).await;
    assert_eq!(member(&shown, "user_id"), USER);
    assert_eq!(member(&shown, "amount"), "2");
    assert_eq!(member(&shown, "payload"), r#"{"id":"one","amount":1,"id":"two","amount":2}"#);
    let find =
        async |id: &str| app.client.get(&format!("/orders/by-external/{id}?user_id={USER}")).await.status;
    assert_eq!((find("two").await, find("one").await), (200, 404));
    app.finish().await;
}

#[tokio::test]
async fn text_that_a_store_cannot_hold_is_refused_with_its_position() {
    let app = TestApp::embedded().start().await;
    let position = "line 1 column";
    for text in [r"\u0000", r"a\u0000b", r"\ud800", r"\udc00\ud800", r"\ud83d", r"\x", "\u{1}", "\n"] {
        for payload in
            [format!(r#"{{"a":"{text}"}}"#), format!(r#"{{"{text}":1}}"#), format!(r#"["{text}"]"#)]
        {
            let answer = app.post_and_check(with_payload(&payload)).await;
            let detail = problem(&answer, "invalid_request");
            assert!(detail.contains("line ") && detail.contains("column "), "{payload:?}: {detail}");
            app.refuses(with_text(&payload), "payload_json", "column ").await;
        }
        let quoted = format!(r#"{{"user_id":"{text}","payload":{{}}}}"#);
        problem(&app.post_and_check(quoted).await, "invalid_request");
    }
    let id = create(&app.client, r#"{"a":"\ud83e\udd80 \u007f \\u0000 \/"}"#).await;
    let shown = order(&app.client, &id).await;
    assert_eq!(member(&shown, "payload"), r#"{"a":"\ud83e\udd80 \u007f \\u0000 \/"}"#);
    app.refuses(format!("{{\"user_id\":\"{USER}\",\"payload\":{{\"a\":\"\0\"}}}}"), "body", position).await;
    app.finish().await;
}

#[tokio::test]
async fn a_body_is_one_object_without_text_around_it() {
    let app = TestApp::embedded().start().await;
    let good = with_payload("{}");
    for (before, after) in
        [("\u{feff}", ""), ("", "x"), ("", "{}"), ("", "\0"), ("", ","), ("\u{a0}", ""), ("[", "]")]
    {
        app.refuses(format!("{before}{good}{after}"), "body", "").await;
    }
    for end in 0..good.len() {
        app.refuses(good[..end].to_owned(), "body", "").await;
    }
    for bad in [&b"\xff"[..], b"{\"user_id\":\"\xc3\x28\"}", b"\xed\xa0\x80", b"{}\xf0\x9f"] {
        app.refuses(bad, "body", "byte ").await;
    }
    let spaced = format!(" \r\n\t{good}\n \n");
    assert_eq!(app.post_and_check(spaced).await.status, 201);
    app.finish().await;
}

#[tokio::test]
async fn ids_in_every_form_get_the_documented_answer() {
    let app = TestApp::embedded().start().await;
    let id = create(&app.client, "{}").await;
    let nil = "00000000-0000-0000-0000-000000000000";
    let send = async |order_id: &str| {
        let body = format!(r#"{{"order_id":{order_id},"user_id":"{USER}","payload":{{}}}}"#);
        app.post_and_check(body).await.status
    };
    for form in
        [id.clone(), id.to_uppercase(), id.replace('-', ""), format!("urn:uuid:{id}"), format!("{{{id}}}")]
    {
        assert_eq!(send(&format!("\"{form}\"")).await, 200, "{form}");
    }
    let escaped: String = id.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    assert_eq!(send(&format!("\"{escaped}\"")).await, 200);
    assert_eq!(send(&format!("\"{nil}\"")).await, 404);
    for form in ["\"\"", "\"0\"", "0", "null"] {
        assert_eq!(send(form).await, 201, "{form}");
    }
    let long = format!("\"{}\"", "0".repeat(100_000));
    let spaced = format!("\" {id}\"");
    let ended = format!("\"{id}\\u0000\"");
    for form in ["\" \"", "\"O\"", "\"null\"", "-1", "1", "1e3", "false", "{}", "[0]", &long, &spaced, &ended]
    {
        assert_eq!(send(form).await, 400, "{}", &form[..form.len().min(60)]);
    }
    let owned_by_nil = format!(r#"{{"user_id":"{nil}","payload":{{}}}}"#);
    assert_eq!(app.post_and_check(owned_by_nil).await.status, 201);
    app.finish().await;
}

#[tokio::test]
async fn paths_of_every_form_get_the_documented_answer() {
    let app = TestApp::embedded().start().await;
    let long = "%2F".repeat(4096);
    let query = format!("user_id={USER}");
    for (path, code) in [
        (format!("/orders/by-external/%?{query}"), "order_not_found"),
        (format!("/orders/by-external/%zz%2?{query}"), "order_not_found"),
        (format!("/orders/by-external/%00?{query}"), "order_not_found"),
        (format!("/orders/by-external/%ff%fe?{query}"), "invalid_request"),
        (format!("/orders/by-external/%ed%a0%80?{query}"), "invalid_request"),
        (format!("/orders/by-external/{long}?{query}"), "order_not_found"),
        (format!("/orders/by-external/x?{query}%"), "invalid_request"),
        ("/orders/%".to_owned(), "invalid_request"),
        ("/orders/%ff".to_owned(), "invalid_request"),
        ("/orders/%00".to_owned(), "invalid_request"),
        (format!("/orders/{long}"), "invalid_request"),
        ("/orders/%2e%2e/health".to_owned(), "route_not_found"),
        ("/problems/%ff".to_owned(), "invalid_request"),
        (format!("/{}", "a".repeat(20_000)), "route_not_found"),
    ] {
        let answer = app.client.get(&path).await;
        app.assert_alive().await;
        problem(&answer, code);
    }
    app.finish().await;
}

#[tokio::test]
async fn bytes_that_are_not_http_1_get_a_4xx_or_a_closed_connection() {
    let app = TestApp::embedded().start().await;
    let long_header =
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (bytes, status) in [
        (&b"nonsense\r\n\r\n"[..], Some(400)),
        (&b"\0\0\0\0\r\n\r\n"[..], Some(400)),
        (&b"\xff\xfe\xfd\r\n\r\n"[..], Some(400)),
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], Some(400)),
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], None),
        (&b"GET /health\r\n\r\n"[..], Some(400)),
        (&b"GET /health HTTP/9.9\r\n\r\n"[..], Some(400)),
        (&b"GET /a b HTTP/1.1\r\n\r\n"[..], Some(400)),
        (&b"GET /health HTTP/1.1\r\nno colon\r\n\r\n"[..], Some(400)),
        (&b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n"[..], Some(400)),
        (&b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"[..], Some(400)),
        (&b"POST /orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n"[..], Some(400)),
        (&b"POST /orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n"[..], Some(400)),
        (&b"POST /orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n{}"[..], Some(400)),
        (long_header.as_bytes(), Some(431)),
        (long_path.as_bytes(), Some(431)),
        (many.as_bytes(), Some(431)),
    ] {
        let answer = raw(app.address, bytes).await;
        app.assert_alive().await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        let answer = String::from_utf8_lossy(&answer);
        // This port does not speak HTTP/2: a client that opens with its preface could not read an answer.
        let expected = status.map_or(String::new(), |status: u16| format!("HTTP/1.1 {status} "));
        assert!(answer.starts_with(&expected) && answer.is_empty() == status.is_none(), "{shown:?}: {answer}");
    }
    app.finish().await;
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let app = TestApp::embedded().start().await;
    let body = with_payload(r#"{"id":"piped"}"#);
    let bytes = format!(
        "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n\
         POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}\
         POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n[\
         GET /orders/by-external/piped?user_id={USER} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = raw(app.address, bytes.as_bytes()).await;
    let answer = String::from_utf8(answer).expect("text");
    let lines: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(lines, ["200", "201", "400", "200"], "{answer}");
    app.assert_alive().await;
    app.finish().await;
}
