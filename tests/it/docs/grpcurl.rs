//! `grpcurl` as far as the pages use it. The client that is generated from the proto files makes the calls of the
//! pages, so a machine that runs the tests does not need the tool. The output has the format of the tool: JSON with
//! names in camel case, two spaces a level, and without members that have their defaults.

use serde_json::Value;
use tonic::metadata::AsciiMetadataKey;
use tonic::{Request, Status};

use crate::clients::grpc::proto::orders::models::v1::OrderModel;
use crate::clients::grpc::proto::orders::service::v1::{
    GetOrderByExternalIdRequest, GetOrderByIdRequest, HealthRequest, UpsertOrderRequest,
};
use crate::clients::grpc::{self, SERVICE};

/// The call of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    message: String,
    metadata: Vec<(String, String)>,
    method: String,
}

/// Makes the call of a command line, at `address` instead of the one that the page shows, and returns its output.
pub(super) fn run(arguments: &str, shown: &str, address: &str) -> String {
    let call = read(arguments, shown);
    let address = address.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut orders = grpc::connect(address);
        let message: Value = serde_json::from_str(&call.message).expect("JSON after -d");
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let answer = match call.method.strip_prefix(SERVICE).and_then(|name| name.strip_prefix('/')) {
            Some("Health") => {
                let answer = orders.health(call.with(HealthRequest {})).await;
                answer.map(|answer| members([("status", answer.into_inner().status)]))
            }
            Some("UpsertOrder") => {
                let request = UpsertOrderRequest {
                    order_id: text("order_id"),
                    user_id: text("user_id"),
                    status: text("status"),
                    payload_json: text("payload_json"),
                };
                let answer = orders.upsert_order(call.with(request)).await.map(tonic::Response::into_inner);
                answer.map(|answer| members([("orderId", answer.order_id), ("status", answer.status)]))
            }
            Some("GetOrderByID") => {
                let request = GetOrderByIdRequest { order_id: text("order_id") };
                let answer = orders.get_order_by_id(call.with(request)).await;
                answer.map(|answer| order(answer.into_inner().order.expect("an order")))
            }
            Some("GetOrderByExternalID") => {
                let request = GetOrderByExternalIdRequest {
                    external_id: text("external_id"),
                    user_id: text("user_id"),
                };
                let answer = orders.get_order_by_external_id(call.with(request)).await;
                answer.map(|answer| order(answer.into_inner().order.expect("an order")))
            }
            _ => panic!("a method that is not known: {}", call.method),
        };
        answer.unwrap_or_else(failure)
    })
}

impl Call {
    fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            let name: AsciiMetadataKey = name.parse().expect("a name");
            request.metadata_mut().append(name, value.parse().expect("plain ASCII"));
        }
        request
    }
}

/// A message whose members are texts.
fn members<const N: usize>(all: [(&str, String); N]) -> String {
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    object(set.map(|(name, value)| (name, Value::from(value).to_string())).collect(), "")
}

fn order(order: OrderModel) -> String {
    let texts =
        |all: [(&'static str, String); 2]| all.map(|(name, value)| (name, Value::from(value).to_string()));
    let mut all = texts([("orderId", order.order_id), ("userId", order.user_id)]).to_vec();
    if order.amount != 0.0 {
        all.push(("amount", order.amount.to_string()));
    }
    all.extend(texts([("status", order.status), ("payloadJson", order.payload_json)]));
    all.extend(texts([("createdAt", order.created_at), ("updatedAt", order.updated_at)]));
    if order.bucket != 0 {
        all.push(("bucket", order.bucket.to_string()));
    }
    object(vec![("order", object(all, "  "))], "")
}

/// An object over several lines; the members keep their order.
fn object(members: Vec<(&str, String)>, indent: &str) -> String {
    let lines: Vec<String> =
        members.iter().map(|(name, value)| format!("{indent}  \"{name}\": {value}")).collect();
    format!("{{\n{}\n{indent}}}", lines.join(",\n"))
}

fn failure(status: Status) -> String {
    // The tool writes the codes in camel case, as the library of Go does.
    format!("ERROR:\n  Code: {:?}\n  Message: {}\n", status.code(), status.message())
}

/// Reads `-plaintext -H 'name: value' -d '{...}' ADDRESS METHOD`.
fn read(arguments: &str, shown: &str) -> Call {
    let words = words(arguments);
    let mut words = words.iter().map(String::as_str);
    let mut call = Call::default();
    while let Some(word) = words.next() {
        match word {
            "-plaintext" => {}
            "-d" => call.message = words.next().expect("a message after -d").to_owned(),
            "-H" => {
                let (name, value) =
                    words.next().and_then(|it| it.split_once(": ")).expect("NAME: VALUE after -H");
                call.metadata.push((name.to_owned(), value.to_owned()));
            }
            address if address == shown => {}
            method => call.method = method.to_owned(),
        }
    }
    call
}

/// The words of a command line, split like a shell does at spaces, with single quotes and backslashes at ends of lines.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_word) = (Vec::new(), String::new(), false, false);
    for c in line.replace("\\\n", " ").chars() {
        match c {
            '\'' => (is_quoted, is_word) = (!is_quoted, true),
            c if c.is_whitespace() && !is_quoted => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            c => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

#[test]
fn a_call_is_read_from_its_command_line() {
    let line = "-plaintext -H 'request_id: 7' \\\n  -d '{\"a\": \"b c\"}' here:1 x.Y/Z";
    let expected = Call {
        message: "{\"a\": \"b c\"}".to_owned(),
        metadata: vec![("request_id".to_owned(), "7".to_owned())],
        method: "x.Y/Z".to_owned(),
    };
    assert_eq!(read(line, "here:1"), expected);
}
