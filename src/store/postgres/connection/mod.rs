//! Connections to Postgres: which server they go to, how a session is set up, and how they are made anew when they
//! break.

pub(super) mod dsn;
pub(super) mod link;
pub(super) mod links;
mod load;
mod pooler;
pub(super) mod server;
pub(super) mod session;
mod tls;
