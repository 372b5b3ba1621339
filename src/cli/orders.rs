//! `orderstream orders`: the client. What a server answers goes to standard output as it came, so that it can
//! be piped and no digit changes; what it refuses goes to standard error in one line.
//!
//! Exit codes: 0 the server did it, 1 it refused (or the watched order failed), 2 it was not asked or did
//! not answer.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use serde::Deserialize;

use super::client::{Answer, Method, Server, percent_encode};
use crate::order::{OrderId, Payload, Status, UserId};

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// How often a watched order is looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

const SERVER_HELP: &str = "Address of the server [env: ORDERSTREAM_SERVER] [default: http://127.0.0.1:8080]";
const PAYLOAD_HELP: &str = "Content of the order: JSON text, @FILE, or - for standard input";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(long, value_name = "URL", global = true, help = SERVER_HELP)]
    server: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new order.
    Create {
        /// Whose order it is.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: UserId,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
    },
    /// Print an order.
    Get {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
    },
    /// Print a user's newest order of an external id, which is the `id` in its payload.
    Find {
        /// The external id.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        external_id: String,
        /// Whose order it is.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: UserId,
    },
    /// Replace an order's content and have it processed again.
    Update {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Whose order it must be.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
    },
    /// Delete an order for ever; its content stays readable.
    Delete {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Whose order it must be.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
    },
    /// Print a line with time, status and version at each change of an order, until it is finished.
    Watch {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Go on when it is finished, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
}

/// Asks the server for what the arguments say. `server_from_env` counts where no flag names one.
pub(super) async fn run(args: Args, server_from_env: Option<String>) -> Result<ExitCode> {
    let url = args.server.or(server_from_env).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    let server = Server::parse(&url)?;
    let answer = match args.action {
        Action::Create { user, payload } => {
            submit(&server, &[("user_id", user.to_string())], Some(&read_payload(&payload)?)).await?
        }
        Action::Get { id } => get(&server, id).await?,
        Action::Find { external_id, user } => {
            let external_id = percent_encode(&external_id);
            let path = format!("/orders/by-external/{external_id}?user_id={user}");
            server.call(Method::GET, &path, String::new()).await?
        }
        Action::Update { id, user, payload } => {
            let mut fields = vec![("order_id", id.to_string())];
            fields.extend(user.map(|user| ("user_id", user.to_string())));
            submit(&server, &fields, Some(&read_payload(&payload)?)).await?
        }
        Action::Delete { id, user } => {
            let mut fields = vec![("order_id", id.to_string()), ("status", Status::Deleted.to_string())];
            fields.extend(user.map(|user| ("user_id", user.to_string())));
            submit(&server, &fields, None).await?
        }
        Action::Watch { id, follow } => return watch(&server, id, follow).await,
    };
    match answer.accepted() {
        Ok(body) => {
            print(body)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => Ok(refused(&refusal)),
    }
}

async fn get(server: &Server, id: OrderId) -> Result<Answer> {
    server.call(Method::GET, &format!("/orders/{id}"), String::new()).await
}

/// Posts to `/orders`. The fields are ids and statuses, which need no escaping; the payload goes in as it is.
async fn submit(server: &Server, fields: &[(&str, String)], payload: Option<&Payload>) -> Result<Answer> {
    let mut members: Vec<String> =
        fields.iter().map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
    members.extend(payload.map(|payload| format!(r#""payload":{}"#, payload.as_str())));
    server.call(Method::POST, "/orders", format!("{{{}}}", members.join(","))).await
}

/// The part of an order that a watcher looks at.
#[derive(Deserialize)]
struct Watched {
    order: WatchedOrder,
}

#[derive(Deserialize)]
struct WatchedOrder {
    status: String,
    updated_at: String,
    version: i64,
    reason: Option<String>,
}

async fn watch(server: &Server, id: OrderId, follow: bool) -> Result<ExitCode> {
    let mut seen = String::new();
    loop {
        let answer = get(server, id).await?;
        let body = match answer.accepted() {
            Ok(body) => body,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        let Watched { order } = serde_json::from_slice(body).context("the server's answer is no order")?;
        // Not the time: the worker's note that it has seen a deletion would show as a second one.
        let state = format!("{} {}", order.status, order.version);
        if state != seen {
            print(format!("{} {state}", order.updated_at).as_bytes())?;
            seen = state;
        }
        // A status that a newer server may have counts as unfinished.
        let finished = Status::parse(&order.status)
            .is_some_and(|status| !matches!(status, Status::New | Status::Processing));
        if finished && !follow {
            if order.status != Status::Failed.as_str() {
                return Ok(ExitCode::SUCCESS);
            }
            return Ok(refused(&format!("the order failed: {}", order.reason.unwrap_or_default())));
        }
        tokio::time::sleep(WATCH_PERIOD).await;
    }
}

/// Takes a payload from where the argument says, and checks it here, where the file and the line are known.
fn read_payload(argument: &str) -> Result<Payload> {
    let (place, text) = match argument.strip_prefix('@') {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("the payload in {file}"))?;
            (format!("the payload in {file}"), text)
        }
        None if argument == "-" => {
            let text = io::read_to_string(io::stdin()).context("the payload on standard input")?;
            ("the payload on standard input".to_owned(), text)
        }
        None => ("the payload".to_owned(), argument.to_owned()),
    };
    Payload::parse(&text).with_context(|| format!("{place} is not JSON that an order can hold"))
}

fn print(line: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn refused(line: &str) -> ExitCode {
    eprintln!("orderstream: {line}");
    ExitCode::FAILURE
}

fn order_id(text: &str) -> Result<OrderId, String> {
    OrderId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}

fn user_id(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}
