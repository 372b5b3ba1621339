//! The options of the Postgres store: how to reach the server, with how many connections, and how long to wait for it.
//! The settings fill them; `app` passes them to the store. They do not change, except for a DSN from a file, which the
//! store reads again. The DSN may hold a password, so it must never be logged: the options have no `Debug`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::ReadFrom;

/// How to reach Postgres, and how long to wait for it.
#[derive(Clone)]
pub struct Options {
    /// A `postgres://` URL or libpq's `key=value` pairs, with libpq's `sslmode` and `sslrootcert`.
    pub dsn: String,
    /// The number of connections for commands, and the same number for completions: while one waits for a lock, another
    /// works.
    pub write_connections: usize,
    /// The number of connections that reads share.
    pub read_connections: usize,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long a statement may take before the server ends it.
    pub statement_timeout: Duration,
    /// Whether to keep a history.
    pub history: bool,
    /// The file that the DSN was read from, if any. The store reads it again when no connection can be opened.
    pub dsn_file: Option<PathBuf>,
    /// Which server reads go to.
    pub read_from: ReadFrom,
}
