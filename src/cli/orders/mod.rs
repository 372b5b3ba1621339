//! `orderstream orders`: the client. What a server answers goes to standard output as it came, so that it can
//! be piped and no digit changes; what it refuses goes to standard error in one line.
//!
//! Exit codes: 0 the server did it, 1 it refused (or the watched order failed), 2 it was not asked or did
//! not answer.

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
use self::response::{accepted, print, refused};
use super::output;
use crate::order::Payload;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Asks the server for what the arguments say. `server_from_env` counts where no flag names one.
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
            waiting(Call::new(Method::GET, query.after(&format!("/orders/{id}"))), wait)
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
            let path = Query::default().with("user_id", user).after(&format!("/orders/{id}"));
            response.of(condition.of(key.of(Call::new(Method::DELETE, path))))
        }
        Action::Batch { orders, key, response } => return batch(&server, &orders, &key, &response).await,
        Action::History { id } => Call::new(Method::GET, format!("/orders/{id}/history")),
        Action::Watch { id, follow } => return follow::watch(&server, id, follow).await,
        Action::Events { id, user, after } => {
            let path = match (id, user) {
                (Some(id), _) => format!("/orders/{id}/events"),
                (None, user) => Query::default().with("user_id", user).after("/events"),
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

/// Prints page after page.
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
        let answer = server.call(Call::new(Method::GET, query.after("/orders"))).await?;
        let body = match accepted(&answer) {
            Ok(body) => body,
            Err(code) => return Ok(code),
        };
        print(body)?;
        let Page { next_cursor } = serde_json::from_slice(body).context("the server's answer is no list")?;
        cursor = next_cursor;
        if !all || cursor.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints what became of many requests. Fails where one of them was refused.
async fn batch(server: &Server, orders: &str, key: &Key, response: &ResponseOptions) -> Result<ExitCode> {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Outcome>,
    }
    #[derive(Deserialize)]
    struct Outcome {
        status: u16,
    }
    let (place, text) = read(orders, "orders")?;
    // As it is, so that no digit changes.
    let orders: &RawValue = serde_json::from_str(&text).with_context(|| format!("{place} are not JSON"))?;
    ensure!(
        orders.get().starts_with('['),
        "{place} are not an array; send [{{\"user_id\":\"...\",\"payload\":...}}, ...]"
    );
    let call = Call::new(Method::POST, "/orders:batch").body(format!(r#"{{"orders":{orders}}}"#));
    let answer = server.call(response.of(key.of(call))).await?;
    let body = match accepted(&answer) {
        Ok(body) => body,
        Err(code) => return Ok(code),
    };
    // The exit code tells of the refusals also where the reader has read enough.
    output::quiet(print(body))?;
    let Results { results } = serde_json::from_slice(body).context("the server's answer is no batch's")?;
    let refused_count = results.iter().filter(|outcome| outcome.status >= 400).count();
    match refused_count {
        0 => Ok(ExitCode::SUCCESS),
        count => Ok(refused(&format!("{count} of {} were refused; each result says why", results.len()))),
    }
}

/// The body of `/orders` and of a PUT. The fields are ids, which need no escaping; the payload goes in as it is.
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

/// The request of a caller who waits for the worker, so many seconds at most.
fn waiting(call: Call, seconds: Option<u32>) -> Call {
    let limit = Duration::from_secs(seconds.unwrap_or(0).into());
    call.header("prefer", seconds.map(|seconds| format!("wait={seconds}"))).longer(limit)
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
    /// With a parameter, where there is a value.
    fn with(mut self, name: &str, value: Option<impl ToString>) -> Query {
        self.0.extend(value.map(|value| format!("{name}={}", percent_encode(&value.to_string()))));
        self
    }

    /// The path with it.
    fn after(self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0.join("&")) }
    }
}
