//! Commands whose output has no reader any more: `orderstream spec openapi | head -c1` ends without a message, and with
//! the exit code of its result. A server continues to serve.

use std::io::{PipeWriter, Read, pipe};
use std::process::Stdio;

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::http::{Answer, raw};
use crate::harness::binary::{Guard, Place, Ran, ended};
use crate::harness::ports;
use crate::harness::wait::{until, within};

/// A pipe whose reader has closed it.
fn closed() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

/// Runs a command whose standard output is closed before it prints.
fn run_with_closed_output(place: &Place, args: &[&str]) -> Ran {
    ended(place.command(args).stdin(Stdio::null()).stdout(closed()).stderr(Stdio::piped()))
}

#[test]
fn closing_the_pipe_after_a_byte_ends_the_command_quietly() {
    let place = Place::new();
    for args in [&["spec", "openapi"][..], &["completions", "bash"], &["config"]] {
        let mut command = place.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _guard = Guard::of(&child);
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_command_with_a_closed_output_ends_quietly() {
    let place = Place::new();
    for args in [
        &["spec", "openapi"][..],
        &["spec", "asyncapi"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["config"],
        &["migrate"],
        &["verify"],
        &["verify", "--json"],
        &["--help"],
        &["--version"],
    ] {
        let ran = run_with_closed_output(&place, args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn verify_with_a_closed_output_reports_findings_by_its_exit_code() {
    let place = Place::new();
    place.run(&["migrate"]).ok();
    let list = place.write("confirmed", &format!("{UNKNOWN_ID} created\n"));
    let ran = run_with_closed_output(&place, &["verify", "--confirmed", &list]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""));
}

#[test]
fn a_client_with_a_closed_output_does_its_work_quietly() {
    let place = Place::new();
    let server = place.up();
    let run_with_closed_output = |args: &[&str]| {
        run_with_closed_output(&place, &[&["orders", "--server", &server.url], args].concat())
    };
    let ran = run_with_closed_output(&["create", "--user", USER, "--payload", r#"{"id":"A-1"}"#]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let listed = server.orders(&place, &["list"]).ok();
    assert!(listed.contains("A-1"), "{listed}");
    let id = listed.split('"').find(|text| text.len() == 36).unwrap().to_owned();
    let batch = r#"[{"order_id":"0196f1c8-7b1e-7000-8000-00000000dead","payload":{}}]"#;
    for (args, code) in [
        (&["list", "--all"][..], 0),
        (&["get", &id], 0),
        (&["find", "A-1", "--user", USER], 0),
        (&["watch", &id], 0),
        (&["watch", &id, "--follow"], 0),
        (&["update", &id, "--payload", "{}"], 0),
    ] {
        let ran = run_with_closed_output(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (code, ""), "{args:?}");
    }
    // The exit code also reports a refusal.
    let ran = run_with_closed_output(&["batch", batch]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

#[test]
fn a_stream_of_events_ends_quietly_when_its_output_is_closed() {
    let place = Place::new();
    let server = crate::harness::binary::Server::start(place.command(&["up"]).env("HISTORY", "on"));
    let created = server.orders(&place, &["create", "--user", USER, "--payload", "{}"]).ok();
    let id = created.split('"').find(|text| text.len() == 36).unwrap();
    for args in [["history", id], ["events", id]] {
        let ran = run_with_closed_output(&place, &[&["orders", "--server", &server.url], &args[..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_client_with_closed_outputs_ends_with_the_code_of_its_result() {
    let place = Place::new();
    let server = place.up();
    for (url, code) in [(server.url.as_str(), 1), ("http://127.0.0.1:1", 2)] {
        let mut command = place.command(&["orders", "--server", url, "get", UNKNOWN_ID]);
        let ran = ended(command.stdin(Stdio::null()).stdout(closed()).stderr(closed()));
        assert_eq!(ran.code, code, "{url}");
    }
}

#[test]
fn a_failed_command_with_closed_outputs_ends_with_its_code() {
    let place = Place::new();
    for args in [&["config", "--api-port", "many"][..], &["api"], &["up", "--data-dir", "/dev/null/x"]] {
        let ran = ended(place.command(args).stdin(Stdio::null()).stdout(closed()).stderr(closed()));
        assert_eq!(ran.code, 2, "{args:?}");
    }
}

#[tokio::test]
async fn a_server_with_a_closed_output_and_log_serves() {
    let place = Place::new();
    let mut command = tokio::process::Command::from(place.command(&["up"]));
    command.env("API_PORT", "0").env("GRPC_PORT", "0").kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).stdout(closed()).stderr(closed()).spawn().unwrap();
    // Only the kernel knows which ports it uses: one of them is for HTTP.
    let process = child.id().unwrap();
    let both = async || Some(ports::of_process(process)).filter(|ports| ports.len() == 2);
    let mut statuses = Vec::new();
    for port in until("a server that listens on two ports", both).await {
        let request = b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
        statuses.push(Answer::read(&raw(([127, 0, 0, 1], port).into(), request).await).status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 505], "HTTP, and gRPC that names the port of HTTP");
    within("the end of the server", child.kill()).await.unwrap();
}
