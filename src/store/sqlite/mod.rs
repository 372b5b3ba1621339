//! The embedded store: SQLite in a folder of its own. One thread owns the writing connection, and commits all queued
//! batches in one transaction with one fsync; reads run on connections of their own. A second process that opens the
//! folder is refused.

mod backup;
mod checkpoint;
mod clean;
mod clock;
mod commands;
mod completions;
mod condition;
mod error;
mod external;
mod folder;
mod history;
mod history_writer;
mod index;
mod keys;
mod lists;
mod maintenance;
mod marker;
mod orders;
mod outbox;
mod reader;
mod rows;
mod schema;
mod search;
mod statements;
mod store;
mod transitions;
mod writer;

pub use self::backup::StoreCopy;
pub use self::error::{CopyError, OpenError};
pub use self::store::SqliteStore;
