//! The domain: what an order is and what may happen to it. Pure values, no IO, no async, no clock but the
//! one it is handed. Everything that crosses a wire or reaches a store has been parsed into these types
//! first, so the other rooms never check an id, a status or a payload twice.

mod amount;
mod canonical;
mod command;
mod decimal;
mod entity;
mod history;
mod id;
mod items;
mod json;
mod listing;
mod message;
mod numbers;
mod payload;
mod request;
mod status;
mod total;

pub use amount::{Amount, AmountError};
pub(crate) use command::needs_user;
pub use command::{Command, Invalid, Put};
pub use entity::Order;
pub use history::{BadHistoryCursor, BadSequence, Cause, HistoryCursor, Sequence, Step, Stretch, Whose};
pub use id::{OrderId, UserId, Version};
pub use json::pick;
pub use listing::{BadPosition, Filter, Page, Position};
pub use message::{Ack, AckStatus, Event, Undecodable, header};
pub use numbers::{NumberError, WRITTEN_OUT};
pub use payload::{Payload, PayloadError};
pub use request::{BadKey, Key, KeyText, Request};
pub use status::{IllegalTransition, Status};
