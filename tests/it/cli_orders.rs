//! The client against a running server: what it prints, where it prints it, and with what code it ends.

use serde_json::Value;

use crate::binary::{Place, Process};

const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";
const STRANGER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a34";
const UNKNOWN: &str = "0196f1c8-7b1e-7000-8000-000000000000";

/// Makes an order and answers its id.
fn created(server: &crate::binary::Server, place: &Place, payload: &str) -> String {
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
fn a_payload_comes_from_a_file_or_from_standard_input_and_keeps_its_digits() {
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
fn a_refusal_is_one_line_with_its_code_and_ends_with_1() {
    let place = Place::new();
    let server = place.up();
    let deleted = created(&server, &place, "{}");
    server.orders(&place, &["delete", &deleted]).ok();
    let mine = created(&server, &place, "{}");
    for (args, start) in [
        (&["get", UNKNOWN][..], "order_not_found (404): "),
        (&["find", "none", "--user", USER], "order_not_found (404): "),
        (&["watch", UNKNOWN], "order_not_found (404): "),
        (&["update", &deleted, "--payload", "{}"], "order_deleted (409): "),
        (&["delete", &deleted], "order_deleted (409): "),
        (&["delete", &mine, "--user", STRANGER], "order_not_found (404): "),
        (&["create", "--user", USER, "--payload", "null"], "invalid_request (400): payload: "),
    ] {
        let message = server.orders(&place, args).refused(1);
        assert!(message.starts_with(&format!("orderstream: {start}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn what_is_wrong_with_the_command_itself_is_told_without_asking_a_server() {
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
fn where_no_server_answers_the_message_names_the_address_and_the_way_out() {
    // Nobody listens on port 1.
    let message = Place::new().run(&["orders", "--server", "http://127.0.0.1:1", "get", UNKNOWN]).refused(2);
    assert!(message.contains("there is no server at http://127.0.0.1:1; start one with `orderstream up`"));
    assert!(message.contains("--server or ORDERSTREAM_SERVER"), "{message}");
}

#[test]
fn the_environment_names_the_server_and_the_flag_wins() {
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
fn a_watch_that_follows_prints_a_line_at_each_change() {
    let place = Place::new();
    let server = place.up();
    let id = created(&server, &place, "{}");
    let mut watch =
        Process::spawn(&mut place.command(&["orders", "--server", &server.url, "watch", &id, "--follow"]));
    assert!(watch.line().ends_with(" done 1"));
    server.orders(&place, &["update", &id, "--payload", "[]"]).ok();
    // A look may catch the update before the worker has.
    let mut line = watch.line();
    if line.ends_with(" processing 2") {
        line = watch.line();
    }
    assert!(line.ends_with(" done 2"), "{line}");
    server.orders(&place, &["delete", &id]).ok();
    assert!(watch.line().ends_with(" deleted 3"));
}
