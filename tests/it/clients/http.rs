//! An HTTP client for tests, and raw bytes for requests that no client would send. It keeps connections alive, follows
//! no redirect, retries nothing, and returns answers unchanged. A guard ends a test that would hang; it is much longer
//! than the time for any correct answer.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The time after which a wait ends: a test that hangs fails.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// A client of one server. Requests made at the same time take a connection each.
pub(crate) struct Client {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// A client that connects with its first request.
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client { address, idle: Mutex::default() }
    }

    /// The address of its server.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").await
    }

    /// `POST path` with a body, as JSON.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body).await
    }

    /// Any request. A host is added, and the length of a body that is not empty.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a legal request");
        timeout(GUARD, self.send(request)).await.expect("an answer in time")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect().await,
        };
        connection.ready().await.expect("an open connection");
        let response = connection.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a complete body").to_bytes();
        self.lock().push(connection);
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A connection of an earlier request that the server has not closed since.
    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.lock();
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("a listening server");
        stream.set_nodelay(true).expect("a socket that takes options");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        // The task ends when the sender is dropped or the server closes; a request notices both itself.
        tokio::spawn(connection);
        sender
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// The one answer in the bytes that [`raw`] read.
    pub(crate) fn read(bytes: &[u8]) -> Answer {
        let text = str::from_utf8(bytes).expect("an answer of text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
        let headers = lines.map(|line| line.split_once(": ").expect("a header")).map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        });
        let status = status[..3].parse().expect("a status");
        Answer { status, headers: headers.collect(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// The body as text, for tests that compare digits.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON. Numbers pass through `f64`: tests of digits read [`Answer::text`].
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// A header's text; `None` where it is missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header in ASCII"))
    }
}

/// Writes these bytes, and reads until the server closes the connection. The bytes should request that
/// (`Connection: close`) or be invalid.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.expect("a listening server");
    let (mut reader, mut writer) = stream.into_split();
    let mut answer = Vec::new();
    let exchange = async {
        // A server may answer and close before it has read everything; then writing fails, and the answer counts. A
        // server that closes with unread bytes resets the connection after its answer.
        let (_, _) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
    };
    timeout(GUARD, exchange).await.expect("a server that closes the connection");
    answer
}
