//! The examples in `examples/`, run like a reader runs them: real processes against a real server. The Python ones run
//! in a virtual environment that `scripts/venv` creates under `target/`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::answers::post;
use super::page::root;
use super::server::{Server, program};
use crate::clients::USER;
use crate::harness::kafka::TestTopics;

/// The time after which a command that hangs is ended, in seconds.
const GUARD: &str = "120";

/// A command that is ended if it hangs.
fn guarded(command: &str) -> Command {
    let mut timeout = Command::new("timeout");
    timeout.args([GUARD, command]).current_dir(root());
    timeout
}

/// Runs a command to its end, which must be a success, and returns its output.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// The Python of the examples.
fn python() -> String {
    let folder = output(
        Command::new("scripts/venv").args(["examples", "examples/requirements.txt"]).current_dir(root()),
    );
    format!("{}/python", folder.trim())
}

/// The body of a creation.
fn creation(payload: &str) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#)
}

/// A member of a body whose value is a text.
fn member(body: &str, name: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body[name].as_str().unwrap_or_else(|| panic!("{body} has no {name}")).to_owned()
}

/// The order as `GET` shows it.
fn order(server: &str, id: &str) -> String {
    output(guarded("curl").args(["--silent", &format!("http://{server}/orders/{id}")]))
}

#[test]
fn a_custom_processor_decides_about_amounts_and_failures() {
    let built =
        guarded(env!("CARGO")).args(["build", "--locked", "--quiet", "--example", "processor"]).status();
    assert!(built.expect("cargo starts").success());
    let example = Path::new(super::server::PROGRAM).with_file_name("examples").join("processor");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(example);
    command.env_clear().env("DATA_DIR", folder.path()).env("API_PORT", "0").current_dir(folder.path());
    let running = Running::start(command);
    let answer =
        post(&running.http, &creation(r#"{"id":"A-1","items":[{"price":9.90,"qty":2}]}"#), "201").unwrap();
    let shown = order(&running.http, &member(&answer, "order_id"));
    assert!(shown.contains(r#""amount":24.70,"status":"done""#), "{shown}");
    let answer = post(&running.http, &creation("{}"), "201").unwrap();
    assert_eq!(member(&answer, "processing"), "failed");
    let shown = order(&running.http, &member(&answer, "order_id"));
    assert!(shown.contains("the order has no items"), "{shown}");
}

#[test]
fn a_client_retries_safely_and_creates_one_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::up(folder.path(), &[]);
    let refusals = [
        problem("503 Service Unavailable", "Retry-After: 0\r\n", r#""code":"overloaded","retryable":true"#),
        problem("500 Internal Server Error", "", r#""code":"outcome_unknown","retryable":false"#),
        // A proxy has answers of its own, and may lose its server in the middle of one.
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhtml".to_owned(),
        "HTTP/1.1 201 Created\r\ncontent-length: 400\r\nconnection: close\r\n\r\n{\"order".to_owned(),
    ];
    let proxy = proxy(&server.http, refusals.to_vec());
    let mut client = guarded(&python());
    client
        .args(["examples/client.py", r#"{"id":"A-1"}"#])
        .env("ORDERSTREAM_SERVER", format!("http://{proxy}"));
    let ran = client.output().expect("the command starts");
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{errors}");
    let attempts = ["overloaded", "outcome_unknown", "no problem in the answer 502", "IncompleteRead", ""];
    for (number, attempt) in attempts.iter().enumerate() {
        assert!(errors.contains(&format!("attempt {}: {attempt}", number + 1)), "{errors}");
    }
    let printed = String::from_utf8(ran.stdout).expect("text");
    assert!(printed.starts_with("201 ") && printed.trim_end().ends_with(" created"), "{printed}");
    // The fifth attempt reached the service, but its answer was lost.
    let list = output(guarded("curl").args(["--silent", &format!("http://{}/orders", server.http)]));
    assert_eq!(list.matches("\"order_id\"").count(), 1, "{list}");
}

#[test]
fn a_client_does_not_retry_a_refused_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::up(folder.path(), &[]);
    let mut client = guarded(&python());
    client.args(["examples/client.py", "{}"]).env("USER_ID", "nobody");
    let ran = client
        .env("ORDERSTREAM_SERVER", format!("http://{}", server.http))
        .output()
        .expect("the command starts");
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && errors.contains("refused: invalid_request (400)"), "{errors}");
    assert!(!errors.contains("attempt 1"), "{errors}");
}

#[test]
fn a_consumer_applies_each_version_once_however_often_delivered() {
    let folder = tempfile::tempdir().expect("a folder");
    let topics = TestTopics::new();
    let mut command = program(folder.path(), &["up"]);
    command.env("API_PORT", "0").env("GRPC_PORT", "0").envs(topics.environment());
    let server = Server::start(command);
    let answer = post(&server.http, &creation(r#"{"id":"A-1","n":0.1}"#), "201").unwrap();
    let id = member(&answer, "order_id");
    post(&server.http, &format!(r#"{{"order_id":"{id}","payload":{{"id":"A-1","n":2}}}}"#), "200").unwrap();
    let python = python();
    let database = folder.path().join("consumer.db");
    let consumer = |until: &str| {
        let mut consumer = guarded(&python);
        consumer
            .args(["examples/consumer.py", until])
            .envs(topics.environment())
            .env("CONSUMER_GROUP", format!("readers-of-{}", topics.options.events_topic))
            .env("CONSUMER_DATABASE", &database);
        output(&mut consumer)
    };
    let first = consumer("--until-end");
    assert!(first.contains(&format!("applied {id} 1\napplied {id} 2\n")), "{first}");
    // Both are delivered again after a record that is not an event.
    topics.write(&topics.options.events_topic, None, None, &[], Some(b"[]"));
    for (_, record) in topics.read(&topics.options.events_topic, 3) {
        if record.key.is_some() {
            topics.produce(&record);
        }
    }
    let second = consumer("--until-end");
    assert!(
        second.contains(&format!("known {id} 1\n")) && second.contains(&format!("known {id} 2\n")),
        "{second}"
    );
    assert!(!second.contains("applied"), "{second}");
    let kept = "import sqlite3,sys; d = sqlite3.connect(sys.argv[1]); \
                print(d.execute('SELECT order_id, version FROM orders').fetchall(), \
                d.execute('SELECT count(*) FROM unreadable').fetchall())";
    let kept = output(guarded(&python).args(["-c", kept]).arg(&database));
    assert_eq!(kept.trim(), format!("[('{id}', 2)] [(1,)]"));
}

/// The answer of a server that refuses a request.
fn problem(status: &str, header: &str, members: &str) -> String {
    let body = format!("{{{members}}}");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\n{header}content-length: {}\r\nconnection: \
         close\r\n\r\n{body}",
        body.len()
    )
}

/// A proxy that answers the first requests itself, forwards the next one and drops its answer, and forwards all that
/// follow.
fn proxy(server: &str, answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, server) = (listener.local_addr().expect("an address").to_string(), server.to_owned());
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let mut client = client.expect("a connection");
            let request = request(&client);
            match answers.get(number) {
                Some(answer) => client.write_all(answer.as_bytes()).expect("an open connection"),
                None => {
                    let mut upstream = TcpStream::connect(&server).expect("a server");
                    upstream.write_all(request.as_bytes()).expect("an open connection");
                    let mut answer = Vec::new();
                    upstream.read_to_end(&mut answer).expect("an answer");
                    if number > answers.len() {
                        client.write_all(&answer).expect("an open connection");
                    }
                }
            }
        }
    });
    address
}

/// Reads a complete request. The clients of Python request that the connection closes.
fn request(client: &TcpStream) -> String {
    let mut reader = BufReader::new(client);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let from = request.len();
        reader.read_line(&mut request).expect("a line");
        let line = request[from..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    request + &String::from_utf8(body).expect("text")
}

/// A server that prints one address, until it is dropped.
struct Running {
    http: String,
    child: Child,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the command starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let http = line.trim().rsplit('/').next().expect("an address").to_owned();
        Running { http, child }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
