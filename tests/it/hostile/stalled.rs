//! An HTTP/2 client that does not read: its windows are closed, so what it asks for stays with the server.

use std::net::{Ipv4Addr, SocketAddr};

use h2::client::{Builder, ResponseFuture, SendRequest};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::LIVENESS;
use super::peer::connect_from;
use crate::support::grpc::framed;
use crate::support::wait::within;

/// A connection. Its streams stay open until it is dropped.
pub(super) struct Stalled {
    sender: SendRequest<Bytes>,
    answers: Vec<ResponseFuture>,
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
            // It ends as the target likes.
            let _ = connection.await;
        });
        Stalled { sender, answers: Vec::new(), _connection: AbortOnDropHandle::new(connection) }
    }

    /// Sends a call of gRPC with one message, and leaves its answer where it is. `false` where the target takes no
    /// further stream of this connection.
    pub(super) async fn call(&mut self, path: &str, message: &[u8]) -> bool {
        let request = Request::post(format!("http://target{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .expect("a request");
        let Ok(mut sender) = self.sender.clone().ready().await else { return false };
        let Ok((answer, mut body)) = sender.send_request(request, false) else { return false };
        self.answers.push(answer);
        body.send_data(Bytes::from(framed(message)), true).is_ok()
    }

    /// Begins a call and sends these bytes of its body, which does not end.
    pub(super) async fn begin(&mut self, path: &str, bytes: &[u8]) -> bool {
        let request = Request::post(format!("http://target{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .expect("a request");
        let Ok(mut sender) = self.sender.clone().ready().await else { return false };
        let Ok((answer, mut body)) = sender.send_request(request, false) else { return false };
        self.answers.push(answer);
        body.send_data(Bytes::copy_from_slice(bytes), false).is_ok()
    }

    /// The same, where the target takes a further call at once; `false` where the connection carries as many as it may.
    pub(super) async fn begin_at_once(&mut self, path: &str, bytes: &[u8]) -> bool {
        let begun = timeout(LIVENESS, self.begin(path, bytes));
        begun.await.unwrap_or(false)
    }

    /// Waits for the heads of the answers of all calls, and answers their HTTP status; `None` for a call that failed.
    pub(super) async fn heads(&mut self) -> Vec<Option<u16>> {
        self.responses().await.into_iter().map(|head| Some(head?.status().as_u16())).collect()
    }

    /// The headers of these answers: with the code of gRPC, where the call was refused.
    pub(super) async fn headers(&mut self) -> Vec<Option<HeaderMap>> {
        self.responses().await.into_iter().map(|head| Some(head?.headers().clone())).collect()
    }

    async fn responses(&mut self) -> Vec<Option<Response<h2::RecvStream>>> {
        let mut heads = Vec::new();
        for answer in self.answers.drain(..) {
            heads.push(within("the head of an answer", answer).await.ok());
        }
        heads
    }
}
