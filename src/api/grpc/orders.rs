//! The methods of the service of orders. Each reads its message and its metadata, calls the service as the handlers of
//! HTTP do, and builds the response. The rules of the fields are those of `api::submission`, for both protocols. A long
//! message is parsed on a blocking thread, and its memory is held until the command is committed or refused. `amount`
//! is the nearest double, because the message is an older service's: only the payload and HTTP have every digit.

use std::borrow::Cow;
use std::sync::Arc;

use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status};

use super::deadline::Deadline;
use super::message::Memory;
use super::metadata::{IF_VERSION, if_version, key};
use super::proto::orders::models::v1::OrderModel;
use super::proto::orders::service::v1::orders_service_server::{OrdersService, OrdersServiceServer};
use super::proto::orders::service::v1::{
    GetOrderByExternalIdRequest, GetOrderByExternalIdResponse, GetOrderByIdRequest, GetOrderByIdResponse,
    HealthRequest, HealthResponse, UpsertOrderRequest, UpsertOrderResponse,
};
use super::size::Size;
use super::status::{ORDER_VERSION, add};
use crate::api::blocking::{LONG_TEXT, run};
use crate::api::caller::Caller;
use crate::api::outcome;
use crate::api::problem::Problem;
use crate::api::reads::ReadGuard;
use crate::api::state::ApiState;
use crate::api::submission::Submission;
use crate::error::Error;
use crate::order::{self, Command, Invalid, Order, OrderId, UserId, Version};
use crate::service::quota::Permit;
use crate::service::turns::Turn;
use crate::service::{CommandReceipt, Service, WaitPolicy};

/// The service of orders as the library serves it.
pub(super) type Server = OrdersServiceServer<Orders>;

/// Its methods.
pub(super) const METHODS: [&str; 4] = ["Health", "UpsertOrder", "GetOrderByID", "GetOrderByExternalID"];

/// The methods.
pub(super) struct Orders {
    state: Arc<ApiState>,
}

/// The methods with the limit on messages.
pub(super) fn server(state: &Arc<ApiState>) -> Server {
    let limit = state.options.body_limit;
    // The middleware has read the message within this limit, and answered a larger one itself.
    OrdersServiceServer::new(Orders { state: Arc::clone(state) }).max_decoding_message_size(limit)
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
        let wait_policy = Deadline::wait_policy(request.extensions());
        let (metadata, extensions, message) = request.into_parts();
        let memory = extensions.get::<Memory>().map(|Memory(memory)| Arc::clone(memory));
        let receipt = self.upsert(&metadata, message, wait_policy, memory).await?;
        Ok(upserted(&receipt))
    }

    async fn get_order_by_id(
        &self,
        request: Request<GetOrderByIdRequest>,
    ) -> Result<Response<GetOrderByIdResponse>, Status> {
        let order_id = OrderId::parse(&request.get_ref().order_id)
            .ok_or_else(|| Problem::from(Invalid::new("order_id", "send a UUID")))?;
        let (caller, until) = (caller(request.extensions())?, self.state.service.reads_until());
        let (guard, order) = self.state.read_order(caller, order_id, until).await?;
        Ok(shown(GetOrderByIdResponse { order: Some(model(&order)) }, &order, guard))
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
        let (caller, until) = (caller(&extensions)?, self.state.service.reads_until());
        let (guard, order) = self.state.read(caller, Turn::Order, until, find).await?;
        Ok(shown(GetOrderByExternalIdResponse { order: Some(model(&order)) }, &order, guard))
    }
}

impl Orders {
    async fn upsert(
        &self,
        metadata: &MetadataMap,
        message: UpsertOrderRequest,
        wait_policy: WaitPolicy,
        memory: Option<Arc<Permit>>,
    ) -> Result<CommandReceipt, Problem> {
        let key = key(metadata)?;
        let if_version = if_version(metadata)?;
        // The message holds its memory: the caller may be gone before the message is read.
        let held = memory.clone();
        let read = move || {
            let _held = held;
            let command = command(message, if_version)?;
            let key = key.map(|key| key.of(&command));
            Ok(order::CommandRequest { command, key })
        };
        let request = match memory.as_ref().is_some_and(|memory| memory.units() > LONG_TEXT) {
            true => run(read).await?,
            false => read()?,
        };
        Ok(self.state.service.submit(request, wait_policy, memory.as_ref().into()).await?)
    }
}

/// The caller, which the middleware has put among the extensions.
fn caller(extensions: &Extensions) -> Result<&Caller, Problem> {
    Ok(extensions.get().ok_or(Error::Internal)?)
}

/// The command of a message.
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
        return Err(Invalid::new(IF_VERSION, "a new order has no version yet; leave it out"));
    }
    submission.require(if_version.as_slice())?;
    submission.into_command()
}

/// The response to an accepted command.
fn upserted(receipt: &CommandReceipt) -> Response<UpsertOrderResponse> {
    let (order_id, status) = (receipt.order_id.to_string(), outcome::status(receipt).to_owned());
    let message = UpsertOrderResponse { order_id, status };
    let mut response = with_version(message, receipt.version);
    let metadata = response.metadata_mut();
    if receipt.replayed {
        add(metadata, "idempotency-replayed", "true");
    }
    if let Some(word) = outcome::processing(receipt) {
        add(metadata, "processing", word);
    }
    response
}

/// A response with the version of its order.
fn with_version<T>(message: T, version: Version) -> Response<T> {
    let mut response = Response::new(message);
    add(response.metadata_mut(), ORDER_VERSION, &version.to_string());
    response
}

/// A response with an order, and the memory that it takes: the message, and the bytes that are made of it.
fn shown<T>(message: T, order: &Order, guard: ReadGuard) -> Response<T> {
    let mut response = with_version(message, order.version);
    let extensions = response.extensions_mut();
    extensions.insert(Size(2 * order.payload.as_str().len()));
    extensions.insert(guard);
    response
}

/// An order as a message. Its amount is the nearest double: the field's type is that of an older service.
fn model(order: &Order) -> OrderModel {
    OrderModel {
        order_id: order.id.to_string(),
        user_id: order.user_id.to_string(),
        // `f64` parses every decimal; one beyond its range becomes infinite.
        amount: order.amount.to_string().parse().unwrap_or(f64::NAN),
        status: order.status.as_str().to_owned(),
        payload_json: order.payload.as_str().to_owned(),
        created_at: order.created_at.to_string(),
        updated_at: order.updated_at.to_string(),
        bucket: order.bucket,
    }
}
