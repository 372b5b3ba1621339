//! Connections to Postgres: which server they go to, how a session is set up, and how broken connections are replaced.
//! No other folder opens a connection. The other folders get prepared statements from it, and failures that say what is
//! known about a batch.

pub(super) mod dsn;
mod load;
pub(super) mod pool;
pub(super) mod pooled_connection;
mod pooler;
pub(super) mod server;
pub(super) mod session;
mod tls;
