//! The proto files as clients see them: reflection lists all services, in both of its versions, and describes exactly
//! the messages and numbers that clients of the contract are generated from. The test reads the routes of HTTP in the
//! file itself: the reflection library leaves out options that it does not know.

use std::path::Path;

use futures_util::stream;
use prost::Message;
use tonic_reflection::pb::{v1, v1alpha};

use crate::clients::grpc::{SERVICE, channel};
use crate::harness::app::TestApp;

/// The part of a file's descriptor that the contract fixes.
#[derive(Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<MessageType>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
    #[prost(string, tag = "12")]
    syntax: String,
}

#[derive(Message)]
struct MessageType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<Field>,
}

#[derive(Message)]
struct Field {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    message: String,
}

#[derive(Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
    #[prost(string, tag = "3")]
    output: String,
}

/// A message on one line: its fields with their numbers and types.
fn line(message: &MessageType) -> String {
    let kind = |field: &Field| match field.kind {
        1 => "double".to_owned(),
        5 => "int32".to_owned(),
        9 => "string".to_owned(),
        11 => field.message.clone(),
        other => panic!("a type that is not in the contract: {other}"),
    };
    let fields = message.fields.iter().map(|it| format!("{} {}={}", kind(it), it.name, it.number));
    format!("{}: {}", message.name, fields.collect::<Vec<_>>().join(", "))
}

/// A method on one line.
fn signature(method: &Method) -> String {
    let Method { name, input, output } = method;
    format!("{name}({input}) -> {output}")
}

/// Requests the file that defines a name from reflection.
async fn file(app: &TestApp, symbol: &str) -> File {
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(app.grpc));
    let request = v1::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.to_owned());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = client.server_reflection_info(stream::iter([request])).await.expect("an answer");
    let answer = answers.into_inner().message().await.expect("a stream").expect("an answer");
    let Some(v1::server_reflection_response::MessageResponse::FileDescriptorResponse(response)) =
        answer.message_response
    else {
        panic!("no file of {symbol}")
    };
    File::decode(response.file_descriptor_proto[0].as_slice()).expect("a descriptor")
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_of_its_versions() {
    let app = TestApp::embedded().start().await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(app.grpc));
    let request = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = client.server_reflection_info(stream::iter([request])).await.expect("an answer");
    let answer = answers.into_inner().message().await.expect("a stream").expect("an answer");
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
    }

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(app.grpc));
    let request = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let answers = client.server_reflection_info(stream::iter([request])).await.expect("an answer");
    let answer = answers.into_inner().message().await.expect("a stream").expect("an answer");
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("no list")
    };
    assert!(list.service.iter().any(|service| service.name == SERVICE), "{list:?}");
    app.finish().await;
}

#[tokio::test]
async fn reflection_describes_the_messages_and_methods_of_the_contract() {
    let app = TestApp::embedded().start().await;
    let service = file(&app, SERVICE).await;
    assert_eq!((service.package.as_str(), service.syntax.as_str()), ("orders.service.v1", "proto3"));
    let messages: Vec<String> = service.messages.iter().map(line).collect();
    assert_eq!(
        messages,
        [
            "HealthRequest: ",
            "HealthResponse: string status=1",
            "UpsertOrderRequest: string order_id=1, string user_id=2, string status=3, string payload_json=4",
            "UpsertOrderResponse: string order_id=1, string status=2",
            "GetOrderByIDRequest: string order_id=1",
            "GetOrderByIDResponse: .orders.models.v1.OrderModel order=1",
            "GetOrderByExternalIDRequest: string external_id=1, string user_id=2",
            "GetOrderByExternalIDResponse: .orders.models.v1.OrderModel order=1",
        ]
    );
    let names: Vec<_> = service.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["OrdersService"]);
    let methods: Vec<String> = service.services[0].methods.iter().map(signature).collect();
    let of = |method: &str| {
        let package = ".orders.service.v1.";
        format!("{method}({package}{method}Request) -> {package}{method}Response")
    };
    assert_eq!(methods, ["Health", "UpsertOrder", "GetOrderByID", "GetOrderByExternalID"].map(of));
    let models = file(&app, "orders.models.v1.OrderModel").await;
    assert_eq!((models.package.as_str(), models.messages.len()), ("orders.models.v1", 1));
    assert_eq!(
        line(&models.messages[0]),
        "OrderModel: string order_id=1, string user_id=2, double amount=3, string status=4, \
         string payload_json=5, string created_at=6, string updated_at=7, int32 bucket=8"
    );
    app.finish().await;
}

#[test]
fn the_proto_file_names_the_http_route_of_each_method() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("api/orders_api/orders.proto");
    let text = std::fs::read_to_string(path).expect("a file");
    let methods: Vec<&str> = text.split("  rpc ").skip(1).collect();
    let routes = methods.iter().map(|method| {
        let (name, _) = method.split_once('(').expect("a name");
        let (_, option) = method.split_once("option (google.api.http) = {").expect("a route");
        let (route, _) = option.split_once("\n    };").expect("the end of the route");
        format!("{name} {}", route.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    assert_eq!(
        routes.collect::<Vec<_>>(),
        [
            r#"Health get: "/health""#,
            r#"UpsertOrder post: "/orders" body: "*""#,
            r#"GetOrderByID get: "/orders/{order_id}""#,
            r#"GetOrderByExternalID get: "/orders/by-external/{external_id}""#,
        ]
    );
}
