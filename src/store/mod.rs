//! The store: where orders are kept. A backend satisfies [`Store`], which is five traits for five kinds of users; each
//! user takes the one that it needs. Each implementation keeps the promises written at the verbs, and one conformance
//! suite holds all of them to it. All times come from the store's own clock, in microseconds.

mod accepted;
mod completion;
mod damage;
mod error;
mod history;
pub mod jumps;
mod lists;
mod maintenance;
mod order_history_page;
mod orders;
mod outbox;
mod pending;
pub mod postgres;
pub mod sqlite;

pub use accepted::{Accepted, BROUGHT_BACK, Refusal, ReplayedOutcome};
pub use completion::{Completed, Completion, Creation, Precondition, Processed};
pub use error::{Damaged, Error};
pub use history::History;
pub use lists::Lists;
pub use maintenance::Maintenance;
pub use order_history_page::{MAX_PAGE_EVENTS, OrderHistoryPage};
pub use orders::Orders;
pub use outbox::Outbox;
use pending::Place;
pub use pending::{MissingEntry, MissingPage, PendingCursor, PendingPage, Postponed, Unpublishable};

/// Keeps orders: all that a backend does.
pub trait Store: Orders + Outbox + History + Lists + Maintenance {}

impl<T: Orders + Outbox + History + Lists + Maintenance> Store for T {}
