//! Clients behind the real nginx. It compresses answers and so weakens their tags, and it limits the size of headers:
//! tags, links, encoded paths and streams must survive that.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::process::Child;

use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Answer, Client};
use crate::clients::stream::Stream;
use crate::harness::app::TestApp;
use crate::harness::binary::{INSTALLATION, output_within};
use crate::harness::ports;
use crate::harness::wait::until;

/// A running nginx. It ends when its handle is dropped.
struct Nginx {
    address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Starts one in front of a server, with the configuration of its packages, but with compression of all JSON.
    async fn before(upstream: SocketAddr) -> Nginx {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/nginx"));
        let found = output_within(INSTALLATION, &mut script);
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let program = String::from_utf8(found.stdout).expect("a path");
        let folder = TempDir::new().expect("a folder");
        let port = SocketAddr::from(([127, 0, 0, 1], ports::for_a_program()));
        let at = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr warn;
             events {{ }}
             http {{
                 access_log off; {temporary}
                 gzip on; gzip_types application/json; gzip_min_length 1; gzip_proxied any;
                 server {{
                     listen {port};
                     location / {{
                         proxy_pass http://{upstream};
                         proxy_http_version 1.1;
                         proxy_set_header Connection '';
                     }}
                 }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a file");
        let mut command = tokio::process::Command::new(program.trim());
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).stdin(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().expect("nginx starts");
        until("nginx", async || tokio::net::TcpStream::connect(port).await.ok()).await;
        Nginx { address: port, _process: process, _folder: folder }
    }
}

/// Reads an order as a client that accepts compressed answers.
async fn compressed(client: &Client, path: &str) -> Answer {
    let answer = client.request("GET", path, &[("accept-encoding", "gzip")], "").await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")), "{answer:?}");
    answer
}

#[tokio::test]
async fn a_tag_that_nginx_weakened_still_guards_a_write() {
    let app = TestApp::embedded().start().await;
    let nginx = Nginx::before(app.address).await;
    let client = Client::new(nginx.address);
    let id = create(&client, r#"{"amount":1}"#).await;
    let path = format!("/orders/{id}");
    let content = format!(r#"{{"user_id":"{USER}","payload":{{"amount":2}}}}"#);
    let body = format!(r#"{{"order_id":"{id}","payload":{{"amount":3}}}}"#);
    let writes =
        [("PUT", path.as_str(), content.as_str()), ("POST", "/orders", body.as_str()), ("DELETE", &path, "")];
    for ((method, target, body), version) in writes.into_iter().zip(1..) {
        let tag = compressed(&client, &path).await.header("etag").expect("a tag").to_owned();
        assert_eq!(tag, format!("W/\"v{version}\""));
        let known = client.request("GET", &path, &[("if-none-match", &tag)], "").await;
        assert_eq!(known.status, 304, "{known:?}");
        let written = client.request(method, target, &[("if-match", &tag)], body.to_owned()).await;
        assert_eq!(written.status, 200, "{written:?}");
        let again = client.request(method, target, &[("if-match", &tag)], body.to_owned()).await;
        if method != "DELETE" {
            problem(&again, "precondition_failed");
        }
    }
    assert_eq!(member(&order(&app.client, &id).await, "version"), "4");
    app.finish().await;
}

#[tokio::test]
async fn nginx_passes_encoded_ids_long_queries_and_streams_as_they_are() {
    let app = TestApp::embedded().start().await;
    let nginx = Nginx::before(app.address).await;
    let client = Client::new(nginx.address);
    let id = create(&client, r#"{"id":"a/b c"}"#).await;
    create(&client, "{}").await;
    let found = client.get(&format!("/orders/by-external/a%2Fb%20c?user_id={USER}")).await;
    assert_eq!(member(&member(found.text(), "order"), "order_id"), id);
    // nginx has 4 KiB for all headers of an answer.
    for length in [1_000, 1_450, 2_900, 3_100, 6_000] {
        let answer = client.get(&format!("/orders?limit=1&x={}", "x".repeat(length))).await;
        assert_eq!(answer.status, 200, "{length}: {answer:?}");
        assert!(!member(answer.text(), "next_cursor").is_empty());
    }
    let mut stream = Stream::open(nginx.address, &format!("/orders/{id}/events"), None).await;
    assert_eq!(stream.take(1).await[0].change().0, 1);
    // An event that happens while the stream is open arrives at once, not when nginx has filled a buffer.
    let update = format!(r#"{{"order_id":"{id}","payload":{{}}}}"#);
    assert_eq!(client.post("/orders", update).await.status, 200);
    assert_eq!(stream.take(2).await[1].change().0, 2);
    drop(stream);
    app.finish().await;
}
