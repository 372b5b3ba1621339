//! `orders events` against a server that fails in every way that goes away by itself.

use std::io::{Read, Write};
use std::sync::mpsc::channel;

use crate::clients::http::GUARD;
use crate::harness::binary::Place;

const UNKNOWN: &str = "0196f1c8-7b1e-7000-8000-000000000000";

#[test]
fn events_go_on_after_a_retryable_problem_and_a_torn_stream_and_tell_what_is_lost() {
    let problem = r#"{"code":"overloaded","detail":"too many streams","retryable":true}"#;
    let busy = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let torn = format!("{head}{}", chunk(":\nretry: 10\n\nid: 3-0\nevent: order\ndata: {\"a\":1}\n\n"));
    let lost = chunk(":\n\nid: 9-0\nevent: gap\ndata: {\"after\":\"3-0\",\"upto\":\"9-0\"}\n\n");
    let lost = format!("{head}{lost}{}", chunk("id: 10-0\nevent: order\ndata: {\"a\":2}\n\n"));
    let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut places = Vec::new();
        for answer in [busy, torn, lost, gone] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            places.extend(
                head.lines().find_map(|line| line.strip_prefix("last-event-id: ")).map(str::to_owned),
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
        tell.send(places)
    });
    let place = Place::new();
    let ran = place.run(&["orders", "--server", &url, "events", UNKNOWN]);
    // First what the client says: where it gave up early, the server waits for it until the test is over.
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "3-0 {\"a\":1}\n10-0 {\"a\":2}\n"), "{}", ran.stderr);
    assert_eq!(told.recv_timeout(GUARD).unwrap(), ["3-0", "10-0"]);
    let notes: Vec<&str> = ran.stderr.lines().collect();
    assert!(notes[0].contains("overloaded (503): too many streams; trying again"), "{notes:?}");
    assert!(notes[1].contains("broke") && notes[1].contains("trying again"), "{notes:?}");
    assert!(notes[2].contains("events after 3-0 up to 9-0 are no longer kept"), "{notes:?}");
    assert!(notes[notes.len() - 1].contains("404"), "{notes:?}");
}
