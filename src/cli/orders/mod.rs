//! `orderstream orders`: the client. It prints the response body unchanged on standard output, so that it can be piped
//! and no digit changes, and an error in one line on standard error. It never repeats a change by itself.
//!
//! Exit codes: 0 the server carried the request out, 1 it rejected the request (or the watched order failed), 2 the
//! request was not sent or not answered.

mod args;
mod client;
mod follow;
mod input;
mod response;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use self::args::Args;
use self::args::{Action, Condition, Key, ListFilter, ResponseOptions};
use self::client::{Call, Method, Server, percent_encode};
use self::input::{read, read_payload};
use self::response::{accepted, print, rejected};
use super::output;
use crate::order::Payload;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Sends the request that the arguments describe, and prints the response. `server_from_env` counts where no flag names
/// a server.
pub(super) async fn run(args: Args, server_from_env: Option<String>) -> Result<ExitCode> {
    let url = args.server.or(server_from_env).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    let server = Server::parse(&url)?;
    let call = match args.action {
        Action::Create { user, payload, key, response } => {
            let body = body(&[("user_id", Some(user.to_string()))], &read_payload(&payload)?);
            response.of(key.of(Call::new(Method::POST, "/orders").body(body)))
        }
        Action::Put { id, user, payload, create_only, condition, response } => {
            let user = user.map(|user| user.to_string());
            let call = Call::new(Method::PUT, format!("/orders/{id}"))
                .body(body(&[("user_id", user)], &read_payload(&payload)?))
                .header("if-none-match", create_only.then(|| "*".to_owned()));
            response.of(condition.of(call))
        }
        Action::Get { id, min_version, wait } => {
            let query = Query::default().with("min_version", min_version);
            waiting(Call::new(Method::GET, query.appended_to(&format!("/orders/{id}"))), wait)
        }
        Action::Find { external_id, user } => {
            let external_id = percent_encode(&external_id);
            Call::new(Method::GET, format!("/orders/by-external/{external_id}?user_id={user}"))
        }
        Action::List { filter, limit, cursor, all } => {
            return list(&server, &filter, limit, cursor, all).await;
        }
        Action::Update { id, user, payload, key, condition, response } => {
            let fields = [("order_id", Some(id.to_string())), ("user_id", user.map(|user| user.to_string()))];
            let body = body(&fields, &read_payload(&payload)?);
            response.of(condition.of(key.of(Call::new(Method::POST, "/orders").body(body))))
        }
        Action::Delete { id, user, key, condition, response } => {
            let path = Query::default().with("user_id", user).appended_to(&format!("/orders/{id}"));
            response.of(condition.of(key.of(Call::new(Method::DELETE, path))))
        }
        Action::Batch { orders, key, response } => return batch(&server, &orders, &key, &response).await,
        Action::History { id } => Call::new(Method::GET, format!("/orders/{id}/history")),
        Action::Watch { id, follow } => return follow::watch(&server, id, follow).await,
        Action::Events { id, user, after } => {
            let path = match (id, user) {
                (Some(id), _) => format!("/orders/{id}/events"),
                (None, user) => Query::default().with("user_id", user).appended_to("/events"),
            };
            return follow::events(&server, &path, after).await;
        }
    };
    let answer = server.call(call).await?;
    match accepted(&answer) {
        Ok(body) => {
            print(body)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Prints one page of a list, or all pages from there.
async fn list(
    server: &Server,
    filter: &ListFilter,
    limit: Option<u32>,
    mut cursor: Option<String>,
    all: bool,
) -> Result<ExitCode> {
    #[derive(Deserialize)]
    struct Page {
        next_cursor: Option<String>,
    }
    loop {
        let query = filter.query().with("limit", limit).with("cursor", cursor.as_deref());
        let answer = server.call(Call::new(Method::GET, query.appended_to("/orders"))).await?;
        let body = match accepted(&answer) {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        print(body)?;
        let Page { next_cursor } =
            serde_json::from_slice(body).context("the server's answer is not a list of orders")?;
        cursor = next_cursor;
        if !all || cursor.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints the outcomes of a batch. Fails where one of them is a rejection.
async fn batch(server: &Server, orders: &str, key: &Key, response: &ResponseOptions) -> Result<ExitCode> {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Outcome>,
    }
    #[derive(Deserialize)]
    struct Outcome {
        status: u16,
    }
    let (source, text) = read(orders, "orders")?;
    // The text is sent unchanged, so that no digit changes.
    let orders: &RawValue = serde_json::from_str(&text).with_context(|| format!("{source} are not JSON"))?;
    ensure!(
        orders.get().starts_with('['),
        "{source} are not an array; send [{{\"user_id\":\"...\",\"payload\":...}}, ...]"
    );
    let call = Call::new(Method::POST, "/orders:batch").body(format!(r#"{{"orders":{orders}}}"#));
    let answer = server.call(response.of(key.of(call))).await?;
    let body = match accepted(&answer) {
        Ok(body) => body,
        Err(code) => return Ok(code),
    };
    // The exit code reports rejections also where the reader has closed standard output.
    output::quiet(print(body))?;
    let Results { results } =
        serde_json::from_slice(body).context("the server's answer is not the outcome of a batch")?;
    let rejected_count = results.iter().filter(|outcome| outcome.status >= 400).count();
    match rejected_count {
        0 => Ok(ExitCode::SUCCESS),
        count => Ok(rejected(&format!("{count} of {} were refused; each result says why", results.len()))),
    }
}

/// The body of `/orders` and of a PUT. The fields are ids, which need no escaping; the payload is sent unchanged.
fn body(fields: &[(&str, Option<String>)], payload: &Payload) -> String {
    let fields =
        fields.iter().filter_map(|(name, value)| Some(format!(r#""{name}":"{}","#, value.as_ref()?)));
    format!(r#"{{{}"payload":{}}}"#, fields.collect::<String>(), payload.as_str())
}

impl Key {
    fn of(&self, call: Call) -> Call {
        call.header("idempotency-key", self.idempotency_key.clone())
    }
}

impl Condition {
    fn of(&self, call: Call) -> Call {
        call.header("if-match", self.if_version.map(|version| format!("\"v{version}\"")))
    }
}

impl ResponseOptions {
    fn of(&self, call: Call) -> Call {
        let call = waiting(call, self.wait);
        let call = call.header("prefer", self.no_wait.then(|| "respond-async".to_owned()));
        call.header("prefer", self.show.then(|| "return=representation".to_owned()))
    }
}

/// A request that waits for the worker, this many seconds at most.
fn waiting(call: Call, seconds: Option<u32>) -> Call {
    let limit = Duration::from_secs(seconds.unwrap_or(0).into());
    call.header("prefer", seconds.map(|seconds| format!("wait={seconds}"))).extend_timeout(limit)
}

impl ListFilter {
    fn query(&self) -> Query {
        Query::default()
            .with("user_id", self.user)
            .with("status", self.status)
            .with("external_id", self.external_id.as_ref())
            .with("created_after", self.created_after)
            .with("created_before", self.created_before)
            .with("show_deleted", self.show_deleted.then_some(true))
    }
}

/// The query of a URL.
#[derive(Default)]
struct Query(Vec<String>);

impl Query {
    /// Adds a parameter, where there is a value.
    fn with(mut self, name: &str, value: Option<impl ToString>) -> Query {
        self.0.extend(value.map(|value| format!("{name}={}", percent_encode(&value.to_string()))));
        self
    }

    /// The path with the query.
    fn appended_to(self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0.join("&")) }
    }
}
