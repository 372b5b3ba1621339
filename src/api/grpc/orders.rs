//! The methods. Each reads its message and its metadata, asks the service as the handlers of HTTP do, and shapes the
//! answer; the rules of the fields are the domain's, for both protocols.

use std::borrow::Cow;
use std::sync::Arc;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Extensions, Request, Response, Status};

use super::deadline::Deadline;
use super::message::Memory;
use super::middleware::Size;
use super::proto::orders::models::v1::OrderModel;
use super::proto::orders::service::v1::orders_service_server::{OrdersService, OrdersServiceServer};
use super::proto::orders::service::v1::{
    GetOrderByExternalIdRequest, GetOrderByExternalIdResponse, GetOrderByIdRequest, GetOrderByIdResponse,
    HealthRequest, HealthResponse, UpsertOrderRequest, UpsertOrderResponse,
};
use super::status::{ORDER_VERSION, tell};
use crate::api::body::{LONG, beside};
use crate::api::http::router::{Reading, Shared};
use crate::api::problem::Problem;
use crate::api::server::exchange::Caller;
use crate::error::Error;
use crate::order::{self, Command, Invalid, KeyText, Order, OrderId, Submission, UserId, Version};
use crate::service::quota::Permit;
use crate::service::turns::Turn;
use crate::service::{Change, Patience, Progress, Receipt, Service};

/// The service of orders as the library serves it.
pub(super) type Server = OrdersServiceServer<Orders>;

/// Its methods.
pub(super) const METHODS: [&str; 4] = ["Health", "UpsertOrder", "GetOrderByID", "GetOrderByExternalID"];

/// The metadata that make a call safe to send again; the second name is that of HTTP.
const KEYS: [&str; 2] = ["request_id", "idempotency-key"];

/// The metadata that names the version that an order must have to be changed.
const IF_VERSION: &str = "if-version";

/// The methods over the service.
pub(super) struct Orders {
    shared: Arc<Shared>,
}

/// The methods with the limit on what they read.
pub(super) fn server(shared: &Arc<Shared>) -> Server {
    let limit = shared.options.body_limit;
    // The edge has read the message within this limit, and answered a larger one itself.
    OrdersServiceServer::new(Orders { shared: Arc::clone(shared) }).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl OrdersService for Orders {
    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        Ok(Response::new(HealthResponse { status: "ok".to_owned() }))
    }

    async fn upsert_order(
        &self,
        request: Request<UpsertOrderRequest>,
    ) -> Result<Response<UpsertOrderResponse>, Status> {
        let patience = Deadline::patience(request.extensions());
        let (metadata, extensions, message) = request.into_parts();
        let memory = extensions.get::<Memory>().map(|Memory(memory)| Arc::clone(memory));
        let receipt = self.upsert(&metadata, message, patience, memory).await?;
        Ok(upserted(&receipt))
    }

    async fn get_order_by_id(
        &self,
        request: Request<GetOrderByIdRequest>,
    ) -> Result<Response<GetOrderByIdResponse>, Status> {
        let order_id = OrderId::parse(&request.get_ref().order_id)
            .ok_or_else(|| Problem::from(Invalid::new("order_id", "send a UUID")))?;
        let (caller, until) = (caller(request.extensions())?, self.shared.service.reads_until());
        let (reading, order) = self.shared.read_order(caller, order_id, until).await?;
        Ok(shown(GetOrderByIdResponse { order: Some(model(&order)) }, &order, reading))
    }

    async fn get_order_by_external_id(
        &self,
        request: Request<GetOrderByExternalIdRequest>,
    ) -> Result<Response<GetOrderByExternalIdResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let GetOrderByExternalIdRequest { external_id, user_id } = message;
        let user_id = UserId::parse(&user_id)
            .ok_or_else(|| Problem::from(Invalid::new("user_id", "send the owner's UUID")))?;
        let find =
            move |service: Arc<Service>| async move { service.find_by_external(&external_id, user_id).await };
        let (caller, until) = (caller(&extensions)?, self.shared.service.reads_until());
        let (reading, order) = self.shared.read(caller, Turn::Order, until, find).await?;
        Ok(shown(GetOrderByExternalIdResponse { order: Some(model(&order)) }, &order, reading))
    }
}

impl Orders {
    async fn upsert(
        &self,
        metadata: &MetadataMap,
        message: UpsertOrderRequest,
        patience: Patience,
        memory: Option<Arc<Permit>>,
    ) -> Result<Receipt, Problem> {
        let key = key(metadata)?;
        let if_version = if_version(metadata)?;
        // Its memory goes with it: the caller may be gone before it is read.
        let held = memory.clone();
        let read = move || {
            let _held = held;
            let command = command(message, if_version)?;
            let key = key.map(|key| key.of(&command));
            Ok(order::Request { command, key })
        };
        let request = match memory.as_ref().is_some_and(|memory| memory.units() > LONG) {
            true => beside(read).await?,
            false => read()?,
        };
        Ok(self.shared.service.submit(request, patience, memory.as_ref().into()).await?)
    }
}

/// Who calls: the edge has put it there.
fn caller(extensions: &Extensions) -> Result<&Caller, Problem> {
    Ok(extensions.get().ok_or(Error::Internal)?)
}

/// What a message asks for.
fn command(message: UpsertOrderRequest, if_version: Option<Version>) -> Result<Command, Invalid> {
    let UpsertOrderRequest { order_id, user_id, status, payload_json } = message;
    let creates = matches!(order_id.as_str(), "" | "0");
    let mut submission = Submission {
        order_id: Some(Cow::Owned(order_id)),
        user_id: Some(Cow::Owned(user_id)),
        status: Some(Cow::Owned(status)),
        payload_json: Some(Cow::Owned(payload_json)),
        ..Submission::default()
    };
    if creates && if_version.is_some() {
        return Err(Invalid::new(IF_VERSION, "a new order has no version before; leave it out"));
    }
    submission.require(if_version.as_slice())?;
    submission.into_command()
}

/// The key that a call carries. Whoever sends both names sends one key.
fn key(metadata: &MetadataMap) -> Result<Option<KeyText>, Invalid> {
    let mut found: Option<KeyText> = None;
    for (name, text) in KEYS.into_iter().flat_map(|name| texts(metadata, name).map(move |text| (name, text)))
    {
        let read = text?;
        let key = KeyText::parse(read).map_err(|error| Invalid::new(name, error.to_string()))?;
        if found.as_ref().is_some_and(|found| *found != key) {
            return Err(Invalid::new(name, "it differs from another key of this call; send one key"));
        }
        found = Some(key);
    }
    Ok(found)
}

/// The version that a call asks for.
fn if_version(metadata: &MetadataMap) -> Result<Option<Version>, Invalid> {
    let mut found = None;
    for text in texts(metadata, IF_VERSION) {
        let version = text?.parse().ok().filter(|version: &Version| *version >= 0);
        let wrong =
            || Invalid::new(IF_VERSION, "send one whole number, the version that the order must have");
        let version = version.ok_or_else(wrong)?;
        if found.is_some_and(|found| found != version) {
            return Err(wrong());
        }
        found = Some(version);
    }
    Ok(found)
}

/// The texts that metadata hold under a name.
fn texts<'a>(
    metadata: &'a MetadataMap,
    name: &'static str,
) -> impl Iterator<Item = Result<&'a str, Invalid>> {
    let text = move |value: &'a AsciiMetadataValue| {
        value.to_str().map_err(|_| Invalid::new(name, "send printable ASCII"))
    };
    metadata.get_all(name).iter().map(text)
}

/// The answer to a command that was accepted.
fn upserted(receipt: &Receipt) -> Response<UpsertOrderResponse> {
    let status = match (receipt.progress, receipt.change) {
        (Progress::Pending, _) => "accepted",
        (_, Change::Created) => "created",
        (_, Change::Updated) => "updated",
        (_, Change::Deleted) => "deleted",
    };
    let message = UpsertOrderResponse { order_id: receipt.order_id.to_string(), status: status.to_owned() };
    let mut response = with_version(message, receipt.version);
    let metadata = response.metadata_mut();
    if receipt.replayed {
        tell(metadata, "idempotency-replayed", "true");
    }
    // The order was accepted, which the status says; that its processing failed is said besides.
    if receipt.progress == Progress::Failed {
        tell(metadata, "processing", "failed");
    }
    response
}

/// An answer about an order of that version.
fn with_version<T>(message: T, version: Version) -> Response<T> {
    let mut response = Response::new(message);
    tell(response.metadata_mut(), ORDER_VERSION, &version.to_string());
    response
}

/// An answer that shows an order, with what it takes up: the message, and the bytes that are made of it.
fn shown<T>(message: T, order: &Order, reading: Reading) -> Response<T> {
    let mut response = with_version(message, order.version);
    let extensions = response.extensions_mut();
    extensions.insert(Size(2 * order.payload.as_str().len()));
    extensions.insert(reading);
    response
}

/// An order as callers see it. The amount is the double nearest to it: the field's type is an older service's.
fn model(order: &Order) -> OrderModel {
    OrderModel {
        order_id: order.id.to_string(),
        user_id: order.user_id.to_string(),
        // The digits of a decimal are a number to `f64`; one beyond its range is infinite.
        amount: order.amount.to_string().parse().unwrap_or(f64::NAN),
        status: order.status.as_str().to_owned(),
        payload_json: order.payload.as_str().to_owned(),
        created_at: order.created_at.to_string(),
        updated_at: order.updated_at.to_string(),
        bucket: order.bucket,
    }
}
