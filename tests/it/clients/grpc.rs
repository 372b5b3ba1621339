//! gRPC for tests: the client that is generated from the proto files, a client of plain HTTP/2 for requests that no
//! generated client would send, and the checks of every refused call.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use orderstream::api::problem::TABLE;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use self::proto::orders::models::v1::OrderModel;
use self::proto::orders::service::v1::orders_service_client::OrdersServiceClient;
use self::proto::orders::service::v1::{GetOrderByIdRequest, UpsertOrderRequest, UpsertOrderResponse};
use crate::clients::USER;
use crate::clients::http::GUARD;

/// The messages and the client as Rust.
#[expect(unreachable_pub, reason = "it is generated")]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/client/mod.rs"));
}

/// A client of the service. Clones share a connection.
pub(crate) type Orders = OrdersServiceClient<Channel>;

/// The service's full name.
pub(crate) const SERVICE: &str = "orders.service.v1.OrdersService";

/// A connection that opens with the first call.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    // The client does not send this timeout to the server.
    endpoint.timeout(GUARD).connect_lazy()
}

/// A client with its own connection.
pub(crate) fn connect(address: SocketAddr) -> Orders {
    OrdersServiceClient::new(channel(address))
}

/// The message that creates an order of the usual user.
pub(crate) fn creation(payload: &str) -> UpsertOrderRequest {
    let (user_id, payload_json) = (USER.to_owned(), payload.to_owned());
    UpsertOrderRequest { user_id, payload_json, ..UpsertOrderRequest::default() }
}

/// The message that updates an order.
pub(crate) fn update(order_id: &str, payload: &str) -> UpsertOrderRequest {
    let (order_id, payload_json) = (order_id.to_owned(), payload.to_owned());
    UpsertOrderRequest { order_id, payload_json, ..UpsertOrderRequest::default() }
}

/// The message that deletes an order.
pub(crate) fn deletion(order_id: &str) -> UpsertOrderRequest {
    let (order_id, status) = (order_id.to_owned(), "deleted".to_owned());
    UpsertOrderRequest { order_id, status, ..UpsertOrderRequest::default() }
}

/// A message with metadata.
pub(crate) fn with<T>(message: T, metadata: &[(&'static str, &str)]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().expect("plain ASCII"));
    }
    request
}

/// Asserts the status of an answer to a write, and returns the id of the order.
pub(crate) fn upserted(answer: Result<Response<UpsertOrderResponse>, Status>, word: &str) -> String {
    let answer = answer.unwrap_or_else(|status| panic!("{word} was expected: {status:?}"));
    let id = answer.metadata().get("x-request-id").expect("an id of the request");
    assert!(!id.is_empty());
    let message = answer.into_inner();
    assert_eq!(message.status, word, "{message:?}");
    message.order_id
}

/// Creates an order of the usual user, and returns its id.
pub(crate) async fn create(orders: &mut Orders, payload: &str) -> String {
    upserted(orders.upsert_order(creation(payload)).await, "created")
}

/// The order of that id.
pub(crate) async fn order(orders: &mut Orders, order_id: &str) -> OrderModel {
    let request = GetOrderByIdRequest { order_id: order_id.to_owned() };
    let answer = orders.get_order_by_id(request).await.expect("an order");
    answer.into_inner().order.expect("an order in the answer")
}

/// Asserts that a call was refused with the problem of that code, as in the table, and returns its status and detail.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: &str) -> (Status, String) {
    let status = answer.expect_err("a refusal");
    let kind = TABLE.iter().find(|kind| kind.code == code).expect("a code of the table");
    let metadata = |name: &str| text(&status, name);
    assert_eq!(metadata("problem-code").as_deref(), Some(code), "{status:?}");
    assert_eq!(status.code(), kind.grpc, "{status:?}");
    assert_eq!(metadata("retryable"), Some(kind.retryable.to_string()), "{status:?}");
    assert_eq!(metadata("retry-after").is_some(), kind.status == 503, "{status:?}");
    let pushback = kind.retryable && kind.status == 503;
    assert_eq!(metadata("grpc-retry-pushback-ms").is_some(), pushback, "{status:?}");
    assert!(metadata("x-request-id").is_some_and(|id| !id.is_empty()), "{status:?}");
    let detail = status.message().to_owned();
    assert!(!detail.is_empty() && !detail.to_lowercase().contains("sql"), "{status:?}");
    (status, detail)
}

/// The text of metadata.
pub(crate) fn text(status: &Status, name: &str) -> Option<String> {
    status.metadata().get(name).map(|value| value.to_str().expect("plain ASCII").to_owned())
}

/// Posts bytes as a call, and returns its status; a call that succeeds has `Ok`.
pub(crate) async fn raw(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(), Status> {
    let (http, answer) = post(address, path, headers, Full::new(Bytes::copy_from_slice(body))).await;
    assert_eq!(http, 200, "{answer:?}");
    let status = Status::from_header_map(&answer).unwrap_or_else(|| panic!("no status in {answer:?}"));
    if status.code() == tonic::Code::Ok { Ok(()) } else { Err(status) }
}

/// Posts any body over HTTP/2, and returns the status of HTTP, and the headers with the trailers.
pub(crate) async fn post<B>(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: B,
) -> (u16, HeaderMap)
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let exchange = async {
        let stream = TcpStream::connect(address).await.expect("a listening server");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("a connection");
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://{address}{path}")).header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        let (mut head, mut body) = response.into_parts();
        while let Some(frame) = body.frame().await {
            if let Ok(trailers) = frame.expect("a complete answer").into_trailers() {
                head.headers.extend(trailers);
            }
        }
        (head.status.as_u16(), head.headers)
    };
    timeout(GUARD, exchange).await.expect("an answer in time")
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a length");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The header of every call.
pub(crate) const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// The path of a method of the service.
pub(crate) fn path(method: &str) -> String {
    format!("/{SERVICE}/{method}")
}
