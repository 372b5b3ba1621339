//! The arguments of `orderstream orders`. Everything that can be checked without a server is checked here, so that a
//! mistake costs no request. The domain parses ids, statuses, keys and offsets, by the same rules as in the server. A
//! doc comment is the help of its argument. Nothing here reads a file or opens a connection.

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Subcommand};
use jiff::Timestamp;

use crate::cli::fields::{order_id, status, user_id};
use crate::order::{HistoryOffset, KeyText, OrderId, Status, UserId, Version};

const SERVER_HELP: &str = "Address of the server [env: ORDERSTREAM_SERVER] [default: http://127.0.0.1:8080]";
const PAYLOAD_HELP: &str = "Content of the order: JSON text, @FILE, or - for standard input";

/// The arguments of `orderstream orders`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[arg(long, value_name = "URL", global = true, help = SERVER_HELP)]
    pub(super) server: Option<String>,
    #[command(subcommand)]
    pub(super) action: Action,
}

/// The request to the server.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Create an order.
    Create {
        /// The owner of the order.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: UserId,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Create an order under an id of your own, or replace its content; safe to repeat.
    Put {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// The owner of the order; optional where the order exists.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
        /// Only create the order; fail where it exists.
        #[arg(long, conflicts_with = "if_version")]
        create_only: bool,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Print an order.
    Get {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Wait until the worker has processed this version or a newer one, for --wait seconds at most.
        #[arg(long, value_name = "VERSION", requires = "wait", value_parser = version())]
        min_version: Option<Version>,
        /// Wait for the worker, this many seconds at most.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u32>,
    },
    /// Print a user's newest order with an external id, which is the `id` in its payload.
    Find {
        /// The external id.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        external_id: String,
        /// The owner of the order.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: UserId,
    },
    /// Print orders, the newest first, one page per line.
    List {
        #[command(flatten)]
        filter: ListFilter,
        /// At most this many orders per page.
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        /// Print the page after this one: the `next_cursor` of a page.
        #[arg(long)]
        cursor: Option<String>,
        /// Print all following pages, too.
        #[arg(long)]
        all: bool,
    },
    /// Replace an order's content and have it processed again.
    Update {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// The user that must own the order.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Delete an order for good; its content stays readable.
    Delete {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// The user that must own the order.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Send many requests at once, as a JSON array of bodies of `POST /orders`; prints the outcome of each.
    Batch {
        /// The requests: JSON text, @FILE, or - for standard input.
        #[arg(value_name = "JSON")]
        orders: String,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Print the history of an order; needs a server with HISTORY=on.
    History {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
    },
    /// Print a line with time, status and version at each change of an order, until it is finished.
    Watch {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Continue when the order is finished, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
    /// Print each change of an order, or of a user's orders, as it happens, until Ctrl-C: its id and the change. Needs
    /// a server with HISTORY=on.
    #[command(group(ArgGroup::new("scope").required(true).args(["id", "user"])))]
    Events {
        /// The order to follow.
        #[arg(value_parser = order_id)]
        id: Option<OrderId>,
        /// The user whose orders to follow, instead of one order.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        /// Start after the event with this id.
        #[arg(long, value_name = "EVENT_ID")]
        after: Option<HistoryOffset>,
    },
}

/// The key of a request.
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    /// A name of your own for this request; a repetition under the same name is carried out once.
    #[arg(long = "idempotency-key", value_name = "KEY", value_parser = key)]
    pub(super) idempotency_key: Option<String>,
}

/// The precondition of a change.
#[derive(Debug, clap::Args)]
pub(super) struct Condition {
    /// Only if the order has this version.
    #[arg(long, value_name = "VERSION", value_parser = version())]
    pub(super) if_version: Option<Version>,
}

/// The response options of a change.
#[derive(Debug, clap::Args)]
pub(super) struct ResponseOptions {
    /// Wait for the worker no longer than this many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    pub(super) wait: Option<u32>,
    /// Do not wait for the worker; return when the order is stored.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Print the order, too, as it is after the change.
    #[arg(long)]
    pub(super) show: bool,
}

/// The filter of a list.
#[derive(Debug, clap::Args)]
pub(super) struct ListFilter {
    /// Only orders of this user.
    #[arg(long, value_name = "UUID", value_parser = user_id)]
    pub(super) user: Option<UserId>,
    /// Only orders with this status: new, processing, done, failed, cancelled or deleted.
    #[arg(long, value_parser = status)]
    pub(super) status: Option<Status>,
    /// Only orders with this external id.
    #[arg(long, value_name = "ID", requires = "user")]
    pub(super) external_id: Option<String>,
    /// Only orders created at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(super) created_after: Option<Timestamp>,
    /// Only orders created before this time.
    #[arg(long, value_name = "TIME")]
    pub(super) created_before: Option<Timestamp>,
    /// Include deleted orders.
    #[arg(long)]
    pub(super) show_deleted: bool,
}

fn version() -> clap::builder::RangedI64ValueParser<Version> {
    clap::value_parser!(Version).range(1..)
}

fn key(text: &str) -> Result<String, String> {
    KeyText::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
