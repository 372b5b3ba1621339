//! `orderstream orders` against a running server: the output of the client, the stream that it prints to, and its exit
//! code. Answers go to standard output unchanged; a refusal is one line on standard error.

use serde_json::Value;

use crate::harness::binary::{Place, Process};

const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";
const STRANGER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a34";
const UNKNOWN: &str = "0196f1c8-7b1e-7000-8000-000000000000";

/// Creates an order, and returns its id.
fn created(server: &crate::harness::binary::Server, place: &Place, payload: &str) -> String {
    let answer = server.orders(place, &["create", "--user", USER, "--payload", payload]).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"], "created");
    answer["order_id"].as_str().unwrap().to_owned()
}

#[test]
fn an_order_is_created_read_found_updated_and_deleted() {
    let place = Place::new();
    let server = place.up();
    let payload = r#"{"id":"A 1/%Ж","items":[{"price":9.90,"qty":2}],"n":12345678901234567890}"#;
    let id = created(&server, &place, payload);

    let got = server.orders(&place, &["get", &id]).ok();
    assert!(got.ends_with("}\n") && got.lines().count() == 1, "{got}");
    assert!(got.contains(&format!("\"payload\":{payload}")) && got.contains("\"amount\":19.80"), "{got}");
    assert_eq!(server.orders(&place, &["find", "A 1/%Ж", "--user", USER]).ok(), got);

    let update = ["update", &id, "--user", USER, "--payload", "[1.10]"];
    let answer = server.orders(&place, &update).ok();
    assert_eq!(answer, format!("{{\"order_id\":\"{id}\",\"status\":\"updated\"}}\n"));
    assert!(server.orders(&place, &["get", &id]).ok().contains("\"payload\":[1.10]"));

    let answer = server.orders(&place, &["delete", &id]).ok();
    assert_eq!(answer, format!("{{\"order_id\":\"{id}\",\"status\":\"deleted\"}}\n"));
    assert!(server.orders(&place, &["get", &id]).ok().contains("\"status\":\"deleted\""));
}

#[test]
fn a_payload_from_a_file_or_standard_input_keeps_its_digits() {
    let place = Place::new();
    let server = place.up();
    let file = place.write("payload.json", "{\"amount\": 0.10,\n \"n\": -0}\n");
    let id = created(&server, &place, &format!("@{file}"));
    let got = server.orders(&place, &["get", &id]).ok();
    assert!(got.contains("\"payload\":{\"amount\": 0.10,\n \"n\": -0},"), "{got}");

    let update = ["orders", "--server", &server.url, "update", &id, "--payload", "-"];
    place.feed(&update, "  -7.00\n").ok();
    assert!(server.orders(&place, &["get", &id]).ok().contains("\"payload\":-7.00,"));
    // A number that looks like a flag.
    server.orders(&place, &["update", &id, "--payload", "-8.00"]).ok();
    assert!(server.orders(&place, &["get", &id]).ok().contains("\"payload\":-8.00,"));
}

#[test]
fn a_refusal_is_one_line_with_its_code_and_exits_with_1() {
    let place = Place::new();
    let server = place.up();
    let deleted = created(&server, &place, "{}");
    server.orders(&place, &["delete", &deleted]).ok();
    let of_user = created(&server, &place, "{}");
    for (args, start) in [
        (&["get", UNKNOWN][..], "order_not_found (404): "),
        (&["find", "none", "--user", USER], "order_not_found (404): "),
        (&["watch", UNKNOWN], "order_not_found (404): "),
        (&["update", &deleted, "--payload", "{}"], "order_deleted (409): "),
        (&["delete", &deleted], "order_deleted (409): "),
        (&["delete", &of_user, "--user", STRANGER], "order_not_found (404): "),
        (&["create", "--user", USER, "--payload", "null"], "invalid_request (400): payload: "),
    ] {
        let message = server.orders(&place, args).refused(1);
        assert!(message.starts_with(&format!("orderstream: {start}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn an_invalid_command_is_reported_without_a_request_to_the_server() {
    let place = Place::new();
    let create = ["create", "--user", USER, "--payload"];
    let missing = format!("@{}", place.data_dir().join("none.json").display());
    for (args, words) in [
        (&["get", "7"][..], "not a UUID"),
        (&["create", "--user", "me", "--payload", "{}"], "not a UUID"),
        (&["create", "--user", USER], "--payload"),
        (&["find", "", "--user", USER], "EXTERNAL_ID"),
        (&[&create[..], &["{\"a\":1e400}"]].concat(), "number out of range at line 1 column"),
        (&[&create[..], &["[1,]"]].concat(), "the payload is not JSON that an order can hold"),
        (&[&create[..], &[&missing]].concat(), "none.json"),
        (&["--server", "https://127.0.0.1:1", "get", UNKNOWN], "plain http:// address"),
        (&["--server", "127.0.0.1:1", "get", UNKNOWN], "write one like http://127.0.0.1:8080"),
    ] {
        let message = place.run(&[&["orders"], args].concat()).refused(2);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn without_a_server_the_message_names_the_address_and_the_fix() {
    // No process listens on port 1.
    let message = Place::new().run(&["orders", "--server", "http://127.0.0.1:1", "get", UNKNOWN]).refused(2);
    assert!(message.contains("there is no server at http://127.0.0.1:1; start one with `orderstream up`"));
    assert!(message.contains("--server or ORDERSTREAM_SERVER"), "{message}");
}

#[test]
fn the_server_flag_takes_precedence_over_the_environment() {
    let place = Place::new();
    let server = place.up();
    let id = created(&server, &place, "{}");
    let get = |variable: &str, args: &[&str]| {
        let mut command = place.command(&[&["orders", "get", &id], args].concat());
        Process::spawn(command.env("ORDERSTREAM_SERVER", variable)).end().1
    };
    assert_eq!(get(&server.url, &[]), 0);
    assert_eq!(get("http://127.0.0.1:1", &[]), 2);
    assert_eq!(get("http://127.0.0.1:1", &["--server", &server.url]), 0);
}

#[test]
fn a_watch_ends_when_the_order_is_finished() {
    let place = Place::new();
    let server = place.up();
    let done = created(&server, &place, "{}");
    let line = server.orders(&place, &["watch", &done]).ok();
    assert!(line.ends_with(" done 1\n") && line.lines().count() == 1, "{line}");

    let failed =
        server.orders(&place, &["create", "--user", USER, "--payload", r#"{"amount":"1e2000"}"#]).ok();
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["processing"], "failed");
    let ran = server.orders(&place, &["watch", failed["order_id"].as_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.ends_with(" failed 1\n"), "{}", ran.stdout);
    assert!(ran.stderr.starts_with("orderstream: the order failed: payload.amount"), "{}", ran.stderr);
}

#[test]
fn watch_with_follow_prints_a_line_for_each_change() {
    let place = Place::new();
    let server = place.up();
    let id = created(&server, &place, "{}");
    let mut watch =
        Process::spawn(&mut place.command(&["orders", "--server", &server.url, "watch", &id, "--follow"]));
    assert!(watch.line().ends_with(" done 1"));
    server.orders(&place, &["update", &id, "--payload", "[]"]).ok();
    // The watch may see the update before the worker has processed it.
    let mut line = watch.line();
    if line.ends_with(" processing 2") {
        line = watch.line();
    }
    assert!(line.ends_with(" done 2"), "{line}");
    server.orders(&place, &["delete", &id]).ok();
    assert!(watch.line().ends_with(" deleted 3"));
}

/// A server with a history, in its own folder.
fn with_history(place: &Place) -> crate::harness::binary::Server {
    crate::harness::binary::Server::start(place.command(&["up"]).env("HISTORY", "on"))
}

#[test]
fn a_request_retried_with_its_key_is_carried_out_once() {
    let place = Place::new();
    let server = place.up();
    let create = ["create", "--user", USER, "--payload", "{}", "--idempotency-key", "checkout-7"];
    let first = server.orders(&place, &create).ok();
    let again = server.orders(&place, &create);
    assert_eq!((again.code, &again.stdout), (0, &first));
    assert_eq!(again.stderr, "orderstream: the key was used before; this is what that request did\n");
    let other = ["create", "--user", USER, "--payload", "[]", "--idempotency-key", "checkout-7"];
    let message = server.orders(&place, &other).refused(1);
    assert!(message.starts_with("orderstream: idempotency_key_reused (422): "), "{message}");
    let message = place.run(&["orders", "delete", UNKNOWN, "--idempotency-key", "a\nb"]).refused(2);
    assert!(message.contains("--idempotency-key"), "{message}");
}

#[test]
fn a_change_may_depend_on_the_version() {
    let place = Place::new();
    let server = place.up();
    let id = created(&server, &place, "{}");
    let update =
        |version| server.orders(&place, &["update", &id, "--payload", "[]", "--if-version", version]);
    update("1").ok();
    let message = update("1").refused(1);
    assert!(message.starts_with("orderstream: precondition_failed (412): "), "{message}");
    let message = server.orders(&place, &["delete", &id, "--if-version", "1"]).refused(1);
    assert!(message.starts_with("orderstream: precondition_failed (412): "), "{message}");
    server.orders(&place, &["delete", &id, "--if-version", "2", "--user", USER]).ok();
}

#[test]
fn an_order_is_put_under_a_chosen_id() {
    let place = Place::new();
    let server = place.up();
    let id = "0b2f6c1e-3d4a-4f5b-8c6d-7e8f90a1b2c3";
    let put = |args: &[&str]| server.orders(&place, &[&["put", id, "--payload", "[1]"], args].concat());
    let message = put(&[]).refused(1);
    assert!(message.starts_with("orderstream: invalid_request (400): user_id: "), "{message}");
    let answer = put(&["--user", USER, "--create-only"]).ok();
    assert_eq!(answer, format!("{{\"order_id\":\"{id}\",\"status\":\"created\"}}\n"));
    let message = put(&["--user", USER, "--create-only"]).refused(1);
    assert!(message.starts_with("orderstream: precondition_failed (412): "), "{message}");
    let answer = put(&["--if-version", "1"]).ok();
    assert_eq!(answer, format!("{{\"order_id\":\"{id}\",\"status\":\"updated\"}}\n"));
    assert_eq!(put(&["--create-only", "--if-version", "1"]).code, 2);
}

#[test]
fn a_caller_chooses_the_wait_and_the_content_of_the_answer() {
    let place = Place::new();
    let server = place.up();
    let create = ["create", "--user", USER, "--payload", r#"{"amount":"1.50"}"#];
    let answer = server.orders(&place, &[&create[..], &["--no-wait"]].concat()).ok();
    assert!(answer.ends_with("\"status\":\"accepted\"}\n"), "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let id = answer["order_id"].as_str().unwrap();
    let got = server.orders(&place, &["get", id, "--min-version", "1", "--wait", "30"]).ok();
    assert!(got.contains("\"status\":\"done\"") && got.contains("\"amount\":1.50"), "{got}");
    let answer = server.orders(&place, &[&create[..], &["--wait", "30", "--show"]].concat()).ok();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["status"], &answer["order"]["status"]), (&"created".into(), &"done".into()));
}

#[test]
fn orders_are_listed_page_by_page() {
    let place = Place::new();
    let server = place.up();
    let ids: Vec<String> =
        (0..5).map(|n| created(&server, &place, &format!(r#"{{"id":"A {n}"}}"#))).collect();
    server.orders(&place, &["delete", &ids[0]]).ok();
    let list = |args: &[&str]| -> Vec<Vec<String>> {
        let pages = server.orders(&place, &[&["list"], args].concat()).ok();
        let page = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let ids = |page: Value| {
            let orders = page["orders"].as_array().unwrap().clone();
            orders.iter().map(|order| order["order_id"].as_str().unwrap().to_owned()).collect()
        };
        pages.lines().map(|line| ids(page(line))).collect()
    };
    let newest = |numbers: &[usize]| numbers.iter().map(|n| ids[*n].clone()).collect::<Vec<_>>();
    assert_eq!(list(&[]), [newest(&[4, 3, 2, 1])]);
    assert_eq!(list(&["--limit", "3"]), [newest(&[4, 3, 2])]);
    // The page after the last full one is empty: it would have the deleted order.
    let pages = list(&["--limit", "2", "--all", "--user", USER]);
    assert_eq!(pages, [newest(&[4, 3]), newest(&[2, 1]), newest(&[])]);
    assert_eq!(list(&["--show-deleted", "--status", "deleted"]), [newest(&[0])]);
    assert_eq!(list(&["--user", USER, "--external-id", "A 2"]), [newest(&[2])]);
    assert_eq!(list(&["--user", STRANGER]), [newest(&[])]);
    assert_eq!(list(&["--created-before", "2020-01-01T00:00:00Z"]), [newest(&[])]);
    assert_eq!(list(&["--created-after", "2020-01-01T00:00:00+01:00"]), [newest(&[4, 3, 2, 1])]);
    let first = server.orders(&place, &["list", "--limit", "3"]).ok();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(list(&["--limit", "3", "--cursor", first["next_cursor"].as_str().unwrap()]), [newest(&[1])]);
    let message = server.orders(&place, &["list", "--cursor", "x"]).refused(1);
    assert!(message.starts_with("orderstream: invalid_request (400): cursor: "), "{message}");
}

#[test]
fn a_batch_prints_each_result_and_one_refusal_sets_the_exit_code() {
    let place = Place::new();
    let server = place.up();
    let order = format!(r#"{{"user_id":"{USER}","payload":{{"amount":0.10}}}}"#);
    let file = place.write("orders.json", &format!("[{order},\n {order}]"));
    let send = ["batch", &format!("@{file}"), "--idempotency-key", "import-1"];
    let answer = server.orders(&place, &send).ok();
    let statuses = |answer: &str| -> Vec<u64> {
        let answer: Value = serde_json::from_str(answer).unwrap();
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(statuses(&answer), [201, 201]);
    server.orders(&place, &send);
    let listed = server.orders(&place, &["list"]).ok();
    assert_eq!(listed.matches("\"payload\":{\"amount\":0.10}").count(), 2, "{listed}");

    let ran = server.orders(&place, &["batch", &format!("[{order},{{}}]")]);
    assert_eq!((ran.code, statuses(&ran.stdout)), (1, vec![201, 400]));
    assert_eq!(ran.stderr, "orderstream: 1 of 2 were refused; each result says why\n");
    let message = server.orders(&place, &["batch", &format!(r#"{{"orders":[{order}]}}"#)]).refused(2);
    assert!(message.contains("not an array") && message.contains("send [{"), "{message}");
    let message = server.orders(&place, &["batch", "[1,"]).refused(2);
    assert!(message.contains("the orders are not JSON"), "{message}");
}

#[test]
fn the_history_is_printed_if_the_server_keeps_it() {
    let place = Place::new();
    let server = with_history(&place);
    let id = created(&server, &place, "{}");
    server.orders(&place, &["update", &id, "--payload", "[]"]).ok();
    let history: Value = serde_json::from_str(&server.orders(&place, &["history", &id]).ok()).unwrap();
    let versions = history["history"].as_array().unwrap();
    assert_eq!(versions.iter().map(|entry| entry["version"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    drop(server);

    let place = Place::new();
    let server = place.up();
    let id = created(&server, &place, "{}");
    for args in [&["history", &id][..], &["events", &id], &["events", "--user", USER]] {
        let message = server.orders(&place, args).refused(1);
        assert!(message.starts_with("orderstream: history_off (404): "), "{message}");
    }
}

#[test]
fn events_are_printed_live_and_resume_after_an_offset() {
    let place = Place::new();
    let server = with_history(&place);
    let id = created(&server, &place, "{}");
    let follow = |args: &[&str]| {
        Process::spawn(&mut place.command(&[&["orders", "--server", &server.url, "events"], args].concat()))
    };
    let split = |line: &str| -> (String, Value) {
        let (at, event) = line.split_once(' ').expect(line);
        (at.to_owned(), serde_json::from_str(event).unwrap())
    };
    let mut events = follow(&[&id]);
    let (first, event) = split(&events.line());
    assert_eq!((&event["version"], &event["status"]), (&1.into(), &"done".into()));
    server.orders(&place, &["update", &id, "--payload", "[]"]).ok();
    let seen = [split(&events.line()), split(&events.line())];
    assert_eq!(
        seen.iter().map(|(_, event)| event["status"].as_str().unwrap()).collect::<Vec<_>>(),
        ["processing", "done"]
    );
    drop(events);

    let mut events = follow(&[&id, "--after", &first]);
    assert_eq!(split(&events.line()), seen[0]);
    let mut events = follow(&["--user", USER, "--after", &seen[0].0]);
    assert_eq!(split(&events.line()), seen[1]);
    server.orders(&place, &["delete", &id]).ok();
    assert_eq!(split(&events.line()).1["status"], "deleted");
}

#[test]
fn events_resume_when_the_server_is_back() {
    let place = Place::new();
    let server = with_history(&place);
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let id = created(&server, &place, "{}");
    let mut events = Process::spawn(&mut place.command(&["orders", "--server", &server.url, "events", &id]));
    assert!(events.line().contains("\"version\":1,\"status\":\"done\""));
    drop(server);

    let mut command = place.command(&["up"]);
    command.env("HISTORY", "on").env("API_PORT", &port).env("GRPC_PORT", "0");
    let mut again = Process::spawn(&mut command);
    assert!(again.line().contains(&port));
    let url = format!("http://127.0.0.1:{port}");
    place.run(&["orders", "--server", &url, "update", &id, "--payload", "[]"]).ok();
    assert!(events.line().contains("\"version\":2,\"status\":\"processing\""));
    assert!(events.line().contains("\"version\":2,\"status\":\"done\""));
}
