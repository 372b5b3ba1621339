//! A client of server-sent events on its own connection. It reads as the standard requires and does nothing more: it
//! does not reconnect by itself, and an interrupted stream fails the test.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::clients::answers::{member, names};
use crate::harness::wait::within;

/// An open stream. Dropping it closes its connection.
pub(crate) struct Stream {
    body: Incoming,
    /// The offset at which it began, if its beginning names one.
    pub(crate) start: Option<String>,
    /// The offsets after which and up to which history events are lost, if its beginning reports a gap.
    pub(crate) gap: Option<(String, String)>,
    /// The text that has been read and not yet been taken.
    text: String,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    pub(crate) id: String,
    /// The JSON text.
    pub(crate) data: String,
}

impl StreamEvent {
    /// The order, its version, the cause of the change and the status after it.
    pub(crate) fn summary(&self) -> (String, i64, String, String) {
        let text = |name| member(&self.data, name);
        (text("order_id"), text("version").parse().expect("a version"), text("by"), text("status"))
    }

    /// The same without the order.
    pub(crate) fn change(&self) -> (i64, String, String) {
        let (_, version, by, status) = self.summary();
        (version, by, status)
    }
}

impl Stream {
    /// Opens a stream, and waits for its first bytes, which are a comment.
    pub(crate) async fn open(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Stream {
        let stream = TcpStream::connect(address).await.expect("a listening server");
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let mut request =
            Request::get(path).header("host", "localhost").header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a legal request");
        let response = within("a stream", sender.send_request(request)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("content-type"), Some("text/event-stream"));
        assert_eq!((header("cache-control"), header("content-length")), (Some("no-store"), None));
        let mut stream = Stream { body: response.into_body(), start: None, gap: None, text: String::new() };
        assert!(stream.read().await, "the stream ended before its beginning");
        let text = std::mem::take(&mut stream.text);
        let (beginning, rest) = text.split_once("\n\n").expect("a complete beginning");
        let (retry, start) = beginning
            .strip_prefix(":\nretry: ")
            .map(|rest| rest.split_once('\n').unwrap_or((rest, "")))
            .expect("a comment and a pause at the beginning");
        assert!((1_000..=3_000).contains(&retry.parse::<u32>().expect("milliseconds")), "{beginning}");
        stream.start = start.strip_prefix("id: ").map(str::to_owned);
        stream.text = rest.to_owned();
        if let Some((id, rest)) =
            rest.strip_prefix("id: ").and_then(|rest| rest.split_once("\nevent: gap\ndata: "))
        {
            let (data, rest) = rest.split_once("\n\n").expect("a complete event");
            assert_eq!(names(data), ["after", "upto"]);
            assert_eq!(member(data, "upto"), id);
            stream.gap = Some((member(data, "after"), member(data, "upto")));
            stream.text = rest.to_owned();
        }
        stream
    }

    /// The next event; `None` when the stream has ended in order.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if !self.read().await {
                assert_eq!(self.text, "", "the stream ended in the middle of an event");
                return None;
            }
        }
    }

    /// Waits for the report that events are lost.
    pub(crate) async fn until_gap(&mut self) {
        while !self.text.contains("event: gap\n") {
            assert!(self.read().await, "the stream ended");
        }
        let (_, gap) = self.text.split_once("event: gap\n").expect("a gap");
        let (_, rest) = gap.split_once("\n\n").expect("a complete event");
        self.text = rest.to_owned();
    }

    /// The next `count` events.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<StreamEvent> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await.expect("another event"));
        }
        taken
    }

    /// Reads until new text arrives; `false` at the end.
    async fn read(&mut self) -> bool {
        loop {
            let frame = within("new text of the stream", self.body.frame()).await;
            let Some(frame) = frame else { return false };
            let data = frame.expect("a stream that is not interrupted").into_data().expect("no trailers");
            self.text.push_str(str::from_utf8(&data).expect("whole characters"));
            if !data.is_empty() {
                return true;
            }
        }
    }
}

/// Parses a block of lines as an event; `None` for comments.
fn parse(block: &str) -> Option<StreamEvent> {
    let (mut id, mut name, mut data) = (None, None, None);
    for line in block.lines().filter(|line| !line.starts_with(':')) {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
        let slot = match field {
            "id" => &mut id,
            "event" => &mut name,
            "data" => &mut data,
            _ => panic!("an unknown field: {line:?}"),
        };
        assert!(slot.replace(value.to_owned()).is_none(), "a field twice: {block:?}");
    }
    let data = data?;
    assert_eq!(name.as_deref(), Some("order"), "{block:?}");
    let expected = ["order_id", "user_id", "version", "status", "by", "at"];
    let rest: Vec<String> = names(&data).into_iter().skip(expected.len()).collect();
    assert_eq!(names(&data)[..expected.len()], expected, "{data}");
    assert!(rest.iter().all(|name| ["amount", "reason"].contains(&name.as_str())), "{data}");
    Some(StreamEvent { id: id.expect("an id"), data })
}
