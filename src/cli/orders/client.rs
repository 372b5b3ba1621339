//! A client of a running server, with only what the commands need: HTTP/1.1 without TLS, one request per connection,
//! and a timeout on every wait. It never repeats a request, because only its caller knows whether that is safe. Its
//! messages name the server and what to do.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub(super) use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The timeout of a request: longer than a server waits for its worker by default.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout of a silent stream: three times a server's longest pause between two lines.
const STREAM_TIMEOUT: Duration = Duration::from_secs(45);

/// The address of a server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    authority: Authority,
}

/// A request.
pub(super) struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    timeout: Duration,
}

/// A response.
pub(super) struct Answer {
    status: StatusCode,
    replayed: bool,
    /// The pause that the server asks for before the next try.
    retry_after: Option<Duration>,
    body: Bytes,
}

/// A response that is a stream.
pub(super) struct Stream {
    server: Server,
    body: Incoming,
}

/// The members of a problem that the client reads.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    retryable: bool,
}

impl Server {
    /// Reads an address such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Where it is not such an address; the message says what to write.
    pub(super) fn parse(url: &str) -> Result<Server> {
        if url.starts_with("https://") {
            bail!(
                "{url}: this client has no TLS; name the server's plain http:// address with --server, or use curl"
            );
        }
        let authority = url
            .strip_prefix("http://")
            .map(|rest| rest.strip_suffix('/').unwrap_or(rest))
            .and_then(|rest| rest.parse::<Authority>().ok())
            .filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
        let authority = authority.with_context(|| {
            format!(
                "{url:?} is not the address of a server; write one like http://127.0.0.1:8080, without a path"
            )
        })?;
        Ok(Server { authority })
    }

    /// Sends a request and waits for the whole response.
    ///
    /// # Errors
    /// Where there is no response in time.
    pub(super) async fn call(&self, call: Call) -> Result<Answer> {
        let limit = call.timeout;
        let exchange = async {
            let response = self.send(call).await?;
            self.answer(response).await
        };
        match timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("{}", self.timed_out(limit)),
        }
    }

    /// Sends a request whose response is a stream.
    ///
    /// # Errors
    /// Where there is no response in time. The inner error is a response that is not a stream.
    pub(super) async fn stream(&self, call: Call) -> Result<Result<Stream, Answer>> {
        let limit = call.timeout;
        let opening = async {
            let response = self.send(call).await?;
            match response.status().is_success() {
                true => Ok(Ok(Stream { server: self.clone(), body: response.into_body() })),
                false => self.answer(response).await.map(Err),
            }
        };
        match timeout(limit, opening).await {
            Ok(answer) => answer,
            Err(_) => bail!("{}", self.timed_out(limit)),
        }
    }

    async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(HOST, self.authority.as_str())
            .header(ACCEPT, "application/problem+json, application/json;q=0.9, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(call.body)))?;
        let stream = self.connect().await?;
        let broke = || self.broke();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(broke)?;
        // The task ends with the sender or with the response. A failure of the connection fails the request, too.
        tokio::spawn(connection);
        sender.send_request(request).await.with_context(broke)
    }

    async fn answer(&self, response: Response<Incoming>) -> Result<Answer> {
        let (status, replayed) = (response.status(), response.headers().contains_key("idempotency-replayed"));
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let body = response.into_body().collect().await.with_context(|| self.broke())?.to_bytes();
        Ok(Answer { status, replayed, retry_after, body })
    }

    fn broke(&self) -> String {
        format!(
            "the connection to http://{} broke; the server may have carried out the request all the same",
            self.authority
        )
    }

    fn timed_out(&self, limit: Duration) -> String {
        format!(
            "http://{} did not answer within {} s; it may have carried out the request all the same",
            self.authority,
            limit.as_secs()
        )
    }

    async fn connect(&self) -> Result<TcpStream> {
        // A URL writes an IPv6 address in brackets, a socket does not.
        let host = self.authority.host().trim_matches(['[', ']']);
        let port = self.authority.port_u16().unwrap_or(80);
        TcpStream::connect((host, port)).await.with_context(|| {
            format!(
                "there is no server at http://{}; start one with `orderstream up`, or name the server with \
                 --server or ORDERSTREAM_SERVER",
                self.authority
            )
        })
    }
}

impl Call {
    /// A request without headers and body.
    pub(super) fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), headers: Vec::new(), body: String::new(), timeout: CALL_TIMEOUT }
    }

    /// Adds a header, where there is a value.
    pub(super) fn header(mut self, name: &'static str, value: Option<String>) -> Call {
        self.headers.extend(value.map(|value| (name, value)));
        self
    }

    /// Sets the body, which is JSON.
    pub(super) fn body(mut self, body: String) -> Call {
        self.body = body;
        self
    }

    /// Makes the timeout longer by the time that the server may wait for the worker.
    pub(super) fn extend_timeout(mut self, wait: Duration) -> Call {
        self.timeout += wait;
        self
    }
}

impl Stream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// Where the connection broke, or nothing arrived in time.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match timeout(STREAM_TIMEOUT, self.body.frame()).await {
                Err(_) => bail!("{}", self.server.timed_out(STREAM_TIMEOUT)),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.with_context(|| self.server.broke())?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Answer {
    /// Whether it is the replayed outcome of an earlier request with the same key.
    pub(super) fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// The shortest pause before the same request is sent again; `None` where another try does not help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        // A proxy before the server sends no problem, only a status.
        let is_retryable = match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => problem.retryable,
            Err(_) => matches!(self.status.as_u16(), 408 | 429 | 502 | 503 | 504),
        };
        is_retryable.then(|| self.retry_after.unwrap_or_default())
    }

    /// The body of a success.
    ///
    /// # Errors
    /// The rejection in one line, its code first.
    pub(super) fn accepted(&self) -> Result<&[u8], String> {
        if self.status.is_success() {
            return Ok(&self.body);
        }
        let status = self.status.as_u16();
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => Err(format!("{} ({status}): {}", problem.code, problem.detail)),
            // The response is not the server's but a proxy's.
            Err(_) => {
                let text = String::from_utf8_lossy(&self.body);
                let start: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(format!("HTTP {status}: {}", start.chars().take(200).collect::<String>()))
            }
        }
    }
}

/// Text as one segment of a path: everything but the unreserved characters of RFC 3986 in percent-encoding.
pub(super) fn percent_encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Everything but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_are_not_encoded() {
        assert_eq!(percent_encode("aZ9-._~").to_string(), "aZ9-._~");
        assert_eq!(percent_encode("a/b %?#+Ж").to_string(), "a%2Fb%20%25%3F%23%2B%D0%96");
    }

    #[test]
    fn an_address_is_plain_http_with_a_host_and_nothing_behind_it() {
        for (url, authority) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost/", "localhost"),
            ("http://[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(Server::parse(url).unwrap().authority.as_str(), authority);
        }
        for url in ["", "localhost:8080", "http://", "http:///x", "http://a/b", "http://u:p@a", "ftp://a"] {
            let message = Server::parse(url).unwrap_err().to_string();
            assert!(message.contains("write one like http://127.0.0.1:8080"), "{message}");
        }
        let message = Server::parse("https://orders.example").unwrap_err().to_string();
        assert!(message.contains("plain http:// address") && message.contains("curl"), "{message}");
    }

    #[test]
    fn only_retryable_answers_name_a_pause() {
        let pause = |status: u16, body: &'static str| {
            let (status, retry_after) = (StatusCode::from_u16(status).unwrap(), Some(Duration::from_secs(7)));
            Answer { status, replayed: false, retry_after, body: Bytes::from_static(body.as_bytes()) }
                .retry_after()
        };
        let again = Some(Duration::from_secs(7));
        assert_eq!(pause(503, r#"{"code":"overloaded","detail":"","retryable":true}"#), again);
        assert_eq!(pause(500, r#"{"code":"outcome_unknown","detail":"","retryable":false}"#), None);
        assert_eq!(pause(404, r#"{"code":"order_not_found","detail":""}"#), None);
        assert_eq!(pause(502, "<html></html>"), again);
        assert_eq!(pause(404, "<html></html>"), None);
    }

    #[test]
    fn a_rejection_is_one_line_also_where_a_proxy_wrote_it() {
        let rejection = |body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            Answer { status: StatusCode::NOT_FOUND, replayed: false, retry_after: None, body }
                .accepted()
                .unwrap_err()
        };
        let problem = r#"{"code":"order_not_found","detail":"there is none","title":"x"}"#;
        assert_eq!(rejection(problem), "order_not_found (404): there is none");
        assert_eq!(rejection("<html>\n  no\n</html>\n"), "HTTP 404: <html> no </html>");
    }
}
