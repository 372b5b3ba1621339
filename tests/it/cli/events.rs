//! `orders events` against a scripted server that fails in several temporary ways: it refuses with a retryable problem,
//! interrupts the stream, and no longer has the history events after the last one. The client retries, continues after
//! its last event, and reports the gap.

use std::io::{Read, Write};
use std::sync::mpsc::channel;

use crate::clients::http::GUARD;
use crate::harness::binary::Place;

const UNKNOWN: &str = "0196f1c8-7b1e-7000-8000-000000000000";

#[test]
fn events_resume_after_temporary_failures_and_report_a_gap() {
    let problem = r#"{"code":"overloaded","detail":"too many streams","retryable":true}"#;
    let overloaded = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let interrupted =
        format!("{head}{}", chunk(":\nretry: 10\n\nid: 3-0\nevent: order\ndata: {\"a\":1}\n\n"));
    let gap = chunk(":\n\nid: 9-0\nevent: gap\ndata: {\"after\":\"3-0\",\"upto\":\"9-0\"}\n\n");
    let gap = format!("{head}{gap}{}", chunk("id: 10-0\nevent: order\ndata: {\"a\":2}\n\n"));
    let unknown = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut offsets = Vec::new();
        for answer in [overloaded, interrupted, gap, unknown] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            offsets.extend(
                head.lines().find_map(|line| line.strip_prefix("last-event-id: ")).map(str::to_owned),
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
        sender.send(offsets)
    });
    let place = Place::new();
    let ran = place.run(&["orders", "--server", &url, "events", UNKNOWN]);
    // The output of the client comes first: if it gave up early, the server would wait for it until the guard.
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "3-0 {\"a\":1}\n10-0 {\"a\":2}\n"), "{}", ran.stderr);
    assert_eq!(received.recv_timeout(GUARD).unwrap(), ["3-0", "10-0"]);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines[0].contains("overloaded (503): too many streams; trying again"), "{lines:?}");
    assert!(lines[1].contains("broke") && lines[1].contains("trying again"), "{lines:?}");
    assert!(lines[2].contains("events after 3-0 up to 9-0 are no longer kept"), "{lines:?}");
    assert!(lines[lines.len() - 1].contains("404"), "{lines:?}");
}
