//! Connections to Postgres: which server they go to, how a session is set up, and how broken connections are replaced.
//! No other folder opens a connection.

pub(super) mod dsn;
mod load;
pub(super) mod pool;
pub(super) mod pooled_connection;
mod pooler;
pub(super) mod server;
pub(super) mod session;
mod tls;
