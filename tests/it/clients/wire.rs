//! One HTTP/1.1 connection, byte by byte. A complete client hides what the fault tests need to know: whether a
//! connection broke before the first byte of an answer or in the middle of one, and that nothing was retried.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::wait::within;

/// An open connection without a request in flight.
pub(crate) struct Wire {
    stream: TcpStream,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// The reason why there is no complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The connection ended before the first byte.
    Silent,
    /// It ended in the middle, after these bytes.
    Torn(Vec<u8>),
}

impl Wire {
    /// Opens a connection.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream })
    }

    /// `POST /orders`.
    pub(crate) async fn post(&mut self, body: &str) -> Result<Answer, Broken> {
        let head =
            format!("POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body.as_bytes()].concat()).await;
        self.answer().await
    }

    /// `GET` of a path.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Broken> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await;
        self.answer().await
    }

    /// Sends bytes. If that fails, reading shows the reason: the peer may have answered before it closed the
    /// connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads an answer to its end.
    pub(crate) async fn answer(&mut self) -> Result<Answer, Broken> {
        within("an answer, or the end of the connection", self.read_answer()).await
    }

    async fn read_answer(&mut self) -> Result<Answer, Broken> {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = parse(&bytes) {
                return Ok(answer);
            }
            match self.stream.read_buf(&mut bytes).await {
                Ok(count) if count > 0 => {}
                _ if bytes.is_empty() => return Err(Broken::Silent),
                _ => return Err(Broken::Torn(bytes)),
            }
        }
    }
}

/// Parses an answer; `None` while bytes are missing.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("heads are ASCII").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let length = header(&head, "content-length").map_or(0, |text| text.parse().expect("a length"));
    let body = bytes.get(end..end + length)?;
    assert_eq!(bytes.len(), end + length, "more bytes than one answer: {bytes:?}");
    Some(Answer { status, head, body: String::from_utf8(body.to_vec()).expect("bodies are UTF-8") })
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Answer {
    /// A header, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Whether this is the last answer on its connection.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// A member of the body, which must have it.
    pub(crate) fn text(&self, member: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("the body is JSON");
        body[member].as_str().unwrap_or_else(|| panic!("no {member} in {self:?}")).to_owned()
    }
}
