//! The subcommands that need no server, and the messages of `up` when it cannot run. Each test runs the real program in
//! its own folder.

use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::binary::{Place, Process, ran};

#[test]
fn up_prints_its_address_and_its_data_folder() {
    let place = Place::new();
    let server = place.up();
    let expected =
        format!("OrderStream listens on {} and keeps its data in {}", server.url, place.data_dir().display());
    assert_eq!(server.ready, expected);
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
}

#[test]
fn a_second_up_on_a_folder_is_refused_and_names_it() {
    let place = Place::new();
    let _server = place.up();
    let message = place.run(&["up", "--api-port", "0"]).refused(2);
    assert!(message.contains(&place.data_dir().display().to_string()), "{message}");
    assert!(message.contains("in use by another process"), "{message}");
    assert!(message.contains("set DATA_DIR to another folder"), "{message}");
}

#[test]
fn a_folder_is_free_again_after_its_process_was_killed() {
    let place = Place::new();
    drop(place.up());
    place.up();
}

#[test]
fn a_port_in_use_is_reported_with_the_setting_to_change() {
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap();
    let port = address.port().to_string();
    for (args, key) in [
        (["--api-port", &port, "--grpc-port", "0"], "API_PORT"),
        (["--api-port", "0", "--grpc-port", &port], "GRPC_PORT"),
    ] {
        let message = Place::new().run(&[&["up"], &args[..]].concat()).refused(2);
        assert!(message.contains(&format!("cannot listen on {address}; set {key}")), "{message}");
    }
}

#[test]
fn a_single_role_is_refused_with_the_local_bus() {
    for role in ["api", "worker"] {
        let message = Place::new().run(&[role]).refused(2);
        assert!(message.contains("KAFKA_BROKERS is not set"), "{message}");
        assert!(message.contains(&format!("to run `{role}` alone")), "{message}");
    }
}

#[test]
fn config_prints_the_settings_with_their_origin_and_no_secret() {
    let place = Place::new();
    let mut command = place.command(&["config", "--ack-wait", "off"]);
    let mut process = Process::spawn(command.env("POSTGRES_DSN", "postgres://u:hunter2@db/orders"));
    let first = process.line();
    let (rest, code) = process.end();
    let shown = format!("{first}\n{rest}");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("postgres_dsn = \"***\"") && shown.contains("# from POSTGRES_DSN"), "{shown}");
    assert!(shown.contains("ack_wait = \"off\"") && shown.contains("# from --ack-wait"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn ignored_variables_are_reported_by_config_and_in_the_log() {
    let place = Place::new();
    let mut command = place.command(&["config"]);
    command
        .env("KAFKA_BROKER", "hunter2")
        .env("API_PORT", "tcp://10.0.0.1:8080")
        .env("ORDERSTREAM_API_PORT", "9000");
    let ran = ran(&mut command);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for text in
        ["KAFKA_BROKER is not a setting and is ignored; the nearest is KAFKA_BROKERS", "API_PORT is ignored"]
    {
        assert!(ran.stdout.contains(&format!("# warning: {text}")), "{}", ran.stdout);
        assert!(ran.stderr.contains("WARN") && ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert!(ran.stdout.contains("api_port = 9000") && ran.stdout.contains("# from ORDERSTREAM_API_PORT"));
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"));
}

#[test]
fn a_server_starts_with_kubernetes_variables_named_like_its_ports() {
    let place = Place::new();
    let mut command = place.command(&["up"]);
    for (name, port) in [("API_PORT", 8080), ("GRPC_PORT", 50051)] {
        command.env(name, format!("tcp://10.0.0.1:{port}")).env(format!("ORDERSTREAM_{name}"), "0");
    }
    let mut server = Process::spawn(command.stderr(Stdio::null()));
    assert!(server.line().contains("OrderStream listens on http://127.0.0.1:"));
}

#[test]
fn an_invalid_setting_is_reported_with_its_name() {
    let message = Place::new().run(&["config", "--api-port", "many"]).refused(2);
    assert!(message.contains("--api-port") && message.contains("many"), "{message}");
}

#[test]
fn migrate_prints_the_version_and_is_repeatable() {
    let place = Place::new();
    let first = place.run(&["migrate"]).ok();
    assert!(first.contains("schema version 5, 5 migrations applied"), "{first}");
    let second = place.run(&["migrate"]).ok();
    assert!(second.contains("schema version 5, 0 migrations"), "{second}");
}

#[test]
fn completions_print_a_script_for_the_shell() {
    let script = Place::new().run(&["completions", "bash"]).ok();
    assert!(script.contains("_orderstream()") && script.contains("--data-dir"), "{script}");
    assert!(script.contains("backup") && script.contains("restore"), "{script}");
}

#[test]
fn the_help_of_the_client_omits_the_settings_of_the_server() {
    let place = Place::new();
    for args in [&["orders", "--help"][..], &["orders", "create", "--help"]] {
        let help = place.run(args).ok();
        assert!(help.contains("--server <URL>"), "{help}");
        assert!(!help.contains("--data-dir") && !help.contains("Settings:"), "{help}");
    }
    assert!(place.run(&["--help"]).ok().contains("--data-dir"));
}
