//! The domain: orders, their commands, events and history. Pure values: no IO, no async, and times only as arguments.
//! Everything that crosses a wire or reaches a store has been parsed into these types first, so other rooms never check
//! an id, a status or a payload twice. This room must not import any other.

mod ack;
mod amount;
mod canonical;
mod command;
mod decimal;
mod entity;
mod event;
mod history;
mod id;
mod items;
mod json;
mod listing;
mod numbers;
mod payload;
mod pointer;
mod record;
mod request;
mod status;
mod total;

pub use ack::{Ack, AckStatus};
pub use amount::{Amount, AmountError};
pub(crate) use command::needs_user;
pub use command::{Command, Invalid, Put};
pub use entity::Order;
pub use event::Event;
pub use history::{
    BadHistoryCursor, BadHistoryOffset, Cause, HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, Scope,
};
pub use id::{OrderId, UserId, Version};
pub use json::pick;
pub use listing::{BadListCursor, Filter, ListCursor, Page};
pub use numbers::{NumberError, WRITTEN_OUT};
pub use payload::{Payload, PayloadError};
pub use record::{Undecodable, header};
pub use request::{BadKey, CommandRequest, Key, KeyText};
pub use status::{IllegalTransition, Status};
