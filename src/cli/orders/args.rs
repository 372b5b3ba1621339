//! The arguments of `orderstream orders`, checked as far as they can be without a server.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use jiff::Timestamp;

use crate::order::{HistoryOffset, KeyText, OrderId, Status, UserId, Version};

const SERVER_HELP: &str = "Address of the server [env: ORDERSTREAM_SERVER] [default: http://127.0.0.1:8080]";
const PAYLOAD_HELP: &str = "Content of the order: JSON text, @FILE, or - for standard input";

/// What `orderstream orders` takes.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[arg(long, value_name = "URL", global = true, help = SERVER_HELP)]
    pub(super) server: Option<String>,
    #[command(subcommand)]
    pub(super) action: Action,
}

/// What the server is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Make a new order.
    Create {
        /// Whose order it is.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: UserId,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Make an order under an id of your own, or replace its content; safe to repeat.
    Put {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Whose order it is; may be left out where it exists.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[arg(long, value_name = "JSON", allow_hyphen_values = true, help = PAYLOAD_HELP)]
        payload: String,
        /// Only make it: refuse where it exists.
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
        /// Wait for the worker, so many seconds at most.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u32>,
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
    /// Print orders, the newest first, a page in a line.
    List {
        #[command(flatten)]
        filter: ListFilter,
        /// How many orders a page holds at most.
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        /// Go on behind a page: its `next_cursor`.
        #[arg(long)]
        cursor: Option<String>,
        /// Print the pages that follow, too.
        #[arg(long)]
        all: bool,
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
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Delete an order for ever; its content stays readable.
    Delete {
        /// The order.
        #[arg(value_parser = order_id)]
        id: OrderId,
        /// Whose order it must be.
        #[arg(long, value_name = "UUID", value_parser = user_id)]
        user: Option<UserId>,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        condition: Condition,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Send many requests at once: a JSON array of what `POST /orders` takes; prints what became of each.
    Batch {
        /// The requests: JSON text, @FILE, or - for standard input.
        #[arg(value_name = "JSON")]
        orders: String,
        #[command(flatten)]
        key: Key,
        #[command(flatten)]
        response: ResponseOptions,
    },
    /// Print what happened to an order, version by version; the server must keep a history.
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
        /// Go on when it is finished, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
    /// Print each change of an order, or of a user's orders, as it happens, until Ctrl-C: a place and the change. The
    /// server must keep a history.
    Events {
        /// The order.
        #[arg(value_parser = order_id, required_unless_present = "user")]
        id: Option<OrderId>,
        /// Whose orders, instead of one order.
        #[arg(long, value_name = "UUID", value_parser = user_id, conflicts_with = "id")]
        user: Option<UserId>,
        /// Go on behind this place.
        #[arg(long, value_name = "PLACE")]
        after: Option<HistoryOffset>,
    },
}

/// The key of a request.
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    /// A name of your own for this request: sent again under it, it is carried out once.
    #[arg(long = "idempotency-key", value_name = "KEY", value_parser = key)]
    pub(super) idempotency_key: Option<String>,
}

/// What must be true of an order that is there.
#[derive(Debug, clap::Args)]
pub(super) struct Condition {
    /// Only if the order has this version.
    #[arg(long, value_name = "VERSION", value_parser = version())]
    pub(super) if_version: Option<Version>,
}

/// How a change is to be answered.
#[derive(Debug, clap::Args)]
pub(super) struct ResponseOptions {
    /// Wait for the worker no longer than so many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    pub(super) wait: Option<u32>,
    /// Do not wait for the worker: it is enough that the order is stored.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Print the order as it is then, too.
    #[arg(long)]
    pub(super) show: bool,
}

/// Which orders are listed.
#[derive(Debug, clap::Args)]
pub(super) struct ListFilter {
    /// Whose orders.
    #[arg(long, value_name = "UUID", value_parser = user_id)]
    pub(super) user: Option<UserId>,
    /// Orders that stand there now: new, processing, done, failed, cancelled or deleted.
    #[arg(long, value_parser = status)]
    pub(super) status: Option<Status>,
    /// Orders of this external id.
    #[arg(long, value_name = "ID", requires = "user")]
    pub(super) external_id: Option<String>,
    /// Orders created at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(super) created_after: Option<Timestamp>,
    /// Orders created before this time.
    #[arg(long, value_name = "TIME")]
    pub(super) created_before: Option<Timestamp>,
    /// Deleted orders, too.
    #[arg(long)]
    pub(super) show_deleted: bool,
}

fn order_id(text: &str) -> Result<OrderId, String> {
    OrderId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}

fn user_id(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).ok_or_else(|| "no status of an order".to_owned())
}

fn version() -> clap::builder::RangedI64ValueParser<Version> {
    clap::value_parser!(Version).range(1..)
}

fn key(text: &str) -> Result<String, String> {
    KeyText::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
