//! Connections to Postgres: which server they go to, how a session is set up, and how they are made anew when they
//! break.

pub(super) mod dsn;
mod load;
pub(super) mod pool;
pub(super) mod pooled_connection;
mod pooler;
pub(super) mod server;
pub(super) mod session;
mod tls;
