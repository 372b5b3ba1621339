//! The store: keeps orders. A backend implements [`Store`], which consists of five traits for five kinds of users; each
//! user takes the trait that it needs. Each backend keeps the promises in the comments of the methods, and one
//! conformance suite tests all backends. All times come from the store's own clock, in microseconds.

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

pub use accepted::{Accepted, MAX_RETURNED_BYTES, Refusal, ReplayedOutcome};
pub use completion::{Completed, Completion, Creation, Precondition, Processed};
pub use error::{Damaged, Error};
pub use history::History;
pub use lists::Lists;
pub use maintenance::Maintenance;
pub use order_history_page::{MAX_PAGE_EVENTS, OrderHistoryPage};
pub use orders::Orders;
pub use outbox::Outbox;
use pending::CursorKey;
pub use pending::{MissingEntry, MissingPage, PendingCursor, PendingPage, Postponed, Unpublishable};

/// All that a backend implements.
pub trait Store: Orders + Outbox + History + Lists + Maintenance {}

impl<T: Orders + Outbox + History + Lists + Maintenance> Store for T {}
