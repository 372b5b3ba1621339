//! What a failure means: from SQLSTATE, or from the lack of one, to what is known about the batch. An error that
//! the server sent for a statement undid it. A connection that ended before the answer leaves the outcome open.

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::order::OrderId;
use crate::store::{Damaged, Error};

/// What keeps the keys of requests apart.
const KEYS: &str = "orders_keys_pkey";

/// A failure on a connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// The driver's or the server's.
    Postgres(tokio_postgres::Error),
    /// A row that no version of this program wrote.
    Damaged(Damaged),
    /// The server takes no writes now.
    ReadOnly,
    /// The server is a standby, whose rows may be older than what was confirmed.
    Standby,
    /// The server, or what is in front of it, cannot be worked with as it is set up.
    Unusable(String),
    /// None of several hosts could be connected to, and why not each.
    Hosts(Vec<(String, Failure)>),
    /// A COMMIT undid its transaction, although none of its statements failed.
    Undone,
    /// No answer in time.
    Timeout,
    /// A row that the schema has is not there.
    Missing(&'static str),
    /// Something of the batch was done before, and nobody can be told what.
    Halfway(Box<Failure>),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Postgres(error)
    }
}

impl Failure {
    /// Why none of these hosts could be connected to.
    pub(super) fn of_hosts(mut failures: Vec<(String, Failure)>) -> Failure {
        match failures.len() {
            1 => failures.swap_remove(0).1,
            _ => Failure::Hosts(failures),
        }
    }

    /// Whether a server says that it is starting, and will take connections.
    pub(super) fn is_starting(&self) -> bool {
        match self {
            Failure::Hosts(hosts) => hosts.iter().any(|(_, failure)| failure.is_starting()),
            _ => self.server().is_some_and(|error| *error.code() == SqlState::CANNOT_CONNECT_NOW),
        }
    }

    /// Why there is nothing that waiting could change.
    pub(super) fn unusable(&self) -> Option<&str> {
        match self {
            Failure::Unusable(reason) => Some(reason),
            Failure::Hosts(hosts) => hosts.iter().find_map(|(_, failure)| failure.unusable()),
            _ => None,
        }
    }

    /// What it means where a part of the batch is durable already.
    pub(super) fn halfway(self) -> Failure {
        match self {
            Failure::Halfway(_) => self,
            failure => Failure::Halfway(Box::new(failure)),
        }
    }

    fn server(&self) -> Option<&DbError> {
        match self {
            Failure::Postgres(error) => error.as_db_error(),
            // Whatever the server says, it does not mean that nothing happened.
            _ => None,
        }
    }

    /// Whether doing the same again at once may work, and nothing has happened yet.
    pub(super) fn is_passing(&self) -> bool {
        let codes = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        // Another process used the key at the same moment, and was faster.
        self.server().is_some_and(|error| codes.contains(error.code())) || self.is_about_a_taken(true)
    }

    /// Whether the id of a new order is taken, and nothing has happened yet.
    pub(super) fn is_about_a_taken_id(&self) -> bool {
        self.is_about_a_taken(false)
    }

    /// Whether the disk of the server is full, and nothing has happened.
    pub(super) fn is_about_a_full_disk(&self) -> bool {
        self.server().is_some_and(|error| *error.code() == SqlState::DISK_FULL)
    }

    fn is_about_a_taken(&self, key: bool) -> bool {
        self.server().is_some_and(|error| {
            *error.code() == SqlState::UNIQUE_VIOLATION && (error.constraint() == Some(KEYS)) == key
        })
    }

    /// Whether the connection is of no more use: it has ended, its server takes no writes (any more), or what
    /// was prepared on it is out of date.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Failure::Damaged(_) | Failure::Missing(_) | Failure::Undone => false,
            Failure::Timeout
            | Failure::ReadOnly
            | Failure::Standby
            | Failure::Unusable(_)
            | Failure::Hosts(_) => true,
            Failure::Halfway(failure) => failure.ends_connection(),
            Failure::Postgres(error) => error.as_db_error().is_none_or(|error| {
                let codes = [
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                    SqlState::FEATURE_NOT_SUPPORTED,
                    SqlState::INVALID_SQL_STATEMENT_NAME,
                    SqlState::UNDEFINED_TABLE,
                    SqlState::UNDEFINED_COLUMN,
                ];
                is_fatal(error) || codes.contains(error.code())
            }),
        }
    }

    /// What a caller learns whose write failed.
    pub(super) fn of_write(self) -> Error {
        match self.server() {
            // It may have been committed just before.
            Some(error) if is_fatal(error) => Error::OutcomeUnknown(self.to_string()),
            Some(error) if is_about_a_row(error) => Error::BadBatch(self.to_string()),
            Some(_) => Error::Unavailable(self.to_string()),
            None => match self {
                Failure::Damaged(_)
                | Failure::ReadOnly
                | Failure::Missing(_)
                | Failure::Standby
                | Failure::Unusable(_)
                | Failure::Hosts(_)
                | Failure::Undone => Error::Unavailable(self.to_string()),
                Failure::Postgres(_) | Failure::Timeout | Failure::Halfway(_) => {
                    Error::OutcomeUnknown(self.to_string())
                }
            },
        }
    }

    /// What a caller learns whose read failed.
    pub(super) fn of_read(self) -> Error {
        match self {
            Failure::Damaged(damaged) => Error::Damaged(damaged),
            failure => Error::Unavailable(failure.to_string()),
        }
    }

    /// Whether one of the rows that were to be read may be at fault: the server cannot make its text, finds it
    /// corrupted, or takes too long for all of them.
    pub(super) fn may_be_about_a_row(&self) -> bool {
        self.server().is_some_and(|error| {
            let code = error.code();
            !is_fatal(error)
                && (["22", "54", "XX"].contains(&&code.code()[..2]) || *code == SqlState::QUERY_CANCELED)
        })
    }

    /// Whether one row is at fault, and nothing else can be.
    pub(super) fn is_about_one_row(&self) -> bool {
        self.may_be_about_a_row()
            && self.server().is_some_and(|error| *error.code() != SqlState::QUERY_CANCELED)
    }

    /// What it means where that was the only row.
    pub(super) fn about(self, order_id: OrderId) -> Failure {
        match self.is_about_one_row() {
            true => {
                Failure::Damaged(Damaged { order_id, what: format!("the server cannot read it: {self}") })
            }
            false => self,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Postgres(error) => match error.as_db_error() {
                Some(error)
                    if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].contains(error.code()) =>
                {
                    write!(f, "{}; run `orderstream migrate`", error.message())
                }
                Some(error) => write!(f, "{} (SQLSTATE {})", error.message(), error.code().code()),
                None => match std::error::Error::source(error) {
                    Some(source) => write!(f, "{error}: {source}"),
                    None => write!(f, "{error}"),
                },
            },
            Failure::Damaged(damaged) => damaged.fmt(f),
            Failure::ReadOnly => f.write_str("the server takes no writes now"),
            Failure::Standby => f.write_str(
                "the server is a standby, which may lag behind; name the primary in POSTGRES_DSN, too, or set \
                 POSTGRES_READ_FROM=any",
            ),
            Failure::Unusable(reason) => f.write_str(reason),
            Failure::Hosts(hosts) => {
                let told: Vec<String> =
                    hosts.iter().map(|(host, failure)| format!("{host}: {failure}")).collect();
                f.write_str(&told.join("; "))
            }
            Failure::Undone => f.write_str("the server undid the transaction at its commit"),
            Failure::Timeout => f.write_str("the server did not answer in time"),
            Failure::Missing(what) => f.write_str(what),
            Failure::Halfway(failure) => failure.fmt(f),
        }
    }
}

/// Whether the server ended the session with it.
fn is_fatal(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Data that the table cannot hold: classes 22 (data exception), 23 (integrity constraint), 54 (program limit).
fn is_about_a_row(error: &DbError) -> bool {
    ["22", "23", "54"].contains(&&error.code().code()[..2])
}
