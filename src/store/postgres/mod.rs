//! The shared store: Postgres, for any number of processes. Each batch is one statement over arrays on a connection of
//! its own kind, and the statement that writes an order also writes its outbox row. Each result says what is known:
//! done, nothing happened, or outcome unknown.

mod bounded;
mod connection;
mod dead_letters;
mod failure;
mod history;
mod lists;
mod maintenance;
mod migrations;
mod options;
mod orders;
mod outbox;
mod payload_text;
mod reads;
mod rows;
mod store;

pub use self::connection::dsn::DsnError;
pub use self::dead_letters::DeadLetter;
pub use self::migrations::{MigrateError, Migrated, SUPERSEDED};
pub use self::options::Options;
pub use self::store::{OpenError, PostgresStore};
