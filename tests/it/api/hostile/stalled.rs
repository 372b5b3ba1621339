//! An HTTP/2 client that does not read. It keeps its flow-control windows closed, so the answers to its requests stay
//! in the memory of the server.

use std::net::{Ipv4Addr, SocketAddr};

use h2::client::{Builder, ResponseFuture, SendRequest};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use tokio_util::task::AbortOnDropHandle;

use super::peer::connect_from;
use crate::clients::grpc::framed;
use crate::harness::wait::within;

/// A connection. Its streams stay open until it is dropped.
pub(super) struct Stalled {
    sender: SendRequest<Bytes>,
    answers: Vec<ResponseFuture>,
    /// The answers that have begun. A stream ends when its answer is dropped.
    begun: Vec<Response<h2::RecvStream>>,
    _connection: AbortOnDropHandle<()>,
}

impl Stalled {
    /// Opens a connection from an address. Each stream may receive `window` bytes, and no more: none where it is 0.
    pub(super) async fn connect(source: Ipv4Addr, to: SocketAddr, window: u32) -> Stalled {
        let stream = connect_from(source, to).await.expect("a listening target");
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_max_send_streams(usize::MAX);
        let (sender, connection) =
            within("a handshake", builder.handshake(stream)).await.expect("a server of HTTP/2");
        let connection = tokio::spawn(async move {
            // The target may end it in any way.
            let _ = connection.await;
        });
        Stalled {
            sender,
            answers: Vec::new(),
            begun: Vec::new(),
            _connection: AbortOnDropHandle::new(connection),
        }
    }

    /// Sends a call of gRPC with one message, and does not read its answer. `false` if the target accepts no further
    /// stream of this connection.
    pub(super) async fn call(&mut self, path: &str, message: &[u8]) -> bool {
        self.send(path, framed(message).into(), true).await
    }

    /// Begins a call and sends these bytes of its body, which does not end.
    pub(super) async fn begin(&mut self, path: &str, bytes: &[u8]) -> bool {
        self.send(path, Bytes::copy_from_slice(bytes), false).await
    }

    async fn send(&mut self, path: &str, bytes: Bytes, is_all: bool) -> bool {
        let request = Request::post(format!("http://target{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .expect("a request");
        let ready = within("a free stream", self.sender.clone().ready()).await;
        let Ok(mut sender) = ready else { return false };
        let Ok((answer, mut body)) = sender.send_request(request, false) else { return false };
        self.answers.push(answer);
        body.send_data(bytes, is_all).is_ok()
    }

    /// How many calls at a time the target allows on this connection; known with the first answer.
    pub(super) fn most_calls(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Waits for the heads of the answers of all calls, and returns their HTTP status; `None` for a call that failed.
    pub(super) async fn heads(&mut self) -> Vec<Option<u16>> {
        self.responses(|head| head.status().as_u16()).await
    }

    /// Waits for the headers of these answers. They hold the code of gRPC if the call was refused.
    pub(super) async fn headers(&mut self) -> Vec<Option<HeaderMap>> {
        self.responses(|head| head.headers().clone()).await
    }

    async fn responses<T>(&mut self, look: impl Fn(&Response<h2::RecvStream>) -> T) -> Vec<Option<T>> {
        let mut heads = Vec::new();
        for answer in self.answers.drain(..) {
            let answer = within("the head of an answer", answer).await.ok();
            heads.push(answer.as_ref().map(&look));
            self.begun.extend(answer);
        }
        heads
    }
}
