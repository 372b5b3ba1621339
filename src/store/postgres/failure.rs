//! Failures: translates SQLSTATE, or its absence, into what is known about a batch. An error that the server sent for a
//! statement has undone the statement. A connection that ended before the answer leaves the outcome unknown, and must
//! never be reported as "nothing happened".

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::order::OrderId;
use crate::store::{Damaged, Error};

/// The constraint that makes keys of requests unique.
const KEYS_CONSTRAINT: &str = "orders_keys_pkey";

/// A failure on a connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error of the driver or the server.
    Postgres(tokio_postgres::Error),
    /// A row that this program cannot read.
    Damaged(Damaged),
    /// The server does not accept writes now.
    ReadOnly,
    /// The server is a standby, whose rows may be older than confirmed writes.
    Standby,
    /// The configuration of the server, or of a pooler in front of it, does not allow to use it.
    Unusable(String),
    /// All of several hosts failed, with the failure of each.
    Hosts(Vec<(String, Failure)>),
    /// A COMMIT rolled its transaction back, although none of its statements failed.
    RolledBack,
    /// No answer in time.
    Timeout,
    /// A row is missing that the migrations have written.
    Missing(&'static str),
    /// A part of the batch may be durable already, and the outcomes are lost.
    PartlyApplied(Box<Failure>),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        Failure::Postgres(error)
    }
}

impl Failure {
    /// The failure of all of these hosts.
    pub(super) fn of_hosts(mut failures: Vec<(String, Failure)>) -> Failure {
        match failures.len() {
            1 => failures.swap_remove(0).1,
            _ => Failure::Hosts(failures),
        }
    }

    /// Whether a server is starting, and will accept connections soon.
    pub(super) fn is_starting(&self) -> bool {
        match self {
            Failure::Hosts(hosts) => hosts.iter().any(|(_, failure)| failure.is_starting()),
            _ => self.server().is_some_and(|error| *error.code() == SqlState::CANNOT_CONNECT_NOW),
        }
    }

    /// The reason, where waiting cannot help.
    pub(super) fn unusable(&self) -> Option<&str> {
        match self {
            Failure::Unusable(reason) => Some(reason),
            Failure::Hosts(hosts) => hosts.iter().find_map(|(_, failure)| failure.unusable()),
            _ => None,
        }
    }

    /// The failure of a batch that is partly durable already.
    pub(super) fn partly_applied(self) -> Failure {
        match self {
            Failure::PartlyApplied(_) => self,
            failure => Failure::PartlyApplied(Box::new(failure)),
        }
    }

    fn server(&self) -> Option<&DbError> {
        match self {
            Failure::Postgres(error) => error.as_db_error(),
            // Of a batch that is partly applied, no error of the server means that nothing happened.
            _ => None,
        }
    }

    /// Whether an immediate retry may succeed, and nothing has happened.
    pub(super) fn is_transient(&self) -> bool {
        let codes = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        // A duplicate key of a request: another process used the key at the same moment, and was faster.
        self.server().is_some_and(|error| codes.contains(error.code())) || self.is_duplicate(true)
    }

    /// Whether the id of a new order exists already, and nothing has happened.
    pub(super) fn is_duplicate_id(&self) -> bool {
        self.is_duplicate(false)
    }

    /// Whether the disk of the server is full, and nothing has happened.
    pub(super) fn is_disk_full(&self) -> bool {
        self.server().is_some_and(|error| *error.code() == SqlState::DISK_FULL)
    }

    fn is_duplicate(&self, key: bool) -> bool {
        self.server().is_some_and(|error| {
            *error.code() == SqlState::UNIQUE_VIOLATION
                && (error.constraint() == Some(KEYS_CONSTRAINT)) == key
        })
    }

    /// Whether the connection must be replaced: it has ended, its server does not accept writes, or its prepared
    /// statements are out of date.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Failure::Damaged(_) | Failure::Missing(_) | Failure::RolledBack => false,
            Failure::Timeout
            | Failure::ReadOnly
            | Failure::Standby
            | Failure::Unusable(_)
            | Failure::Hosts(_) => true,
            Failure::PartlyApplied(failure) => failure.ends_connection(),
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

    /// The error for the caller of a write.
    pub(super) fn of_write(self) -> Error {
        match self.server() {
            // The server may have committed just before.
            Some(error) if is_fatal(error) => Error::OutcomeUnknown(self.to_string()),
            Some(error) if is_row_error(error) => Error::BadBatch(self.to_string()),
            Some(_) => Error::Unavailable(self.to_string()),
            None => match self {
                Failure::Damaged(_)
                | Failure::ReadOnly
                | Failure::Missing(_)
                | Failure::Standby
                | Failure::Unusable(_)
                | Failure::Hosts(_)
                | Failure::RolledBack => Error::Unavailable(self.to_string()),
                Failure::Postgres(_) | Failure::Timeout | Failure::PartlyApplied(_) => {
                    Error::OutcomeUnknown(self.to_string())
                }
            },
        }
    }

    /// The error for the caller of a read.
    pub(super) fn of_read(self) -> Error {
        match self {
            Failure::Damaged(damaged) => Error::Damaged(damaged),
            failure => Error::Unavailable(failure.to_string()),
        }
    }

    /// Whether one of the requested rows may be at fault: the server cannot make its text, finds it corrupted, or takes
    /// too long for all of them.
    pub(super) fn may_concern_a_row(&self) -> bool {
        self.server().is_some_and(|error| {
            let code = error.code();
            !is_fatal(error)
                && (["22", "54", "XX"].contains(&&code.code()[..2]) || *code == SqlState::QUERY_CANCELED)
        })
    }

    /// Whether a row is certainly at fault.
    pub(super) fn concerns_a_row(&self) -> bool {
        self.may_concern_a_row()
            && self.server().is_some_and(|error| *error.code() != SqlState::QUERY_CANCELED)
    }

    /// The failure of a statement that reads the row of this order alone.
    pub(super) fn about(self, order_id: OrderId) -> Failure {
        match self.concerns_a_row() {
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
            Failure::ReadOnly => f.write_str("the server does not accept writes now"),
            Failure::Standby => f.write_str(
                "the server is a standby, which may lag behind; name the primary in POSTGRES_DSN, too, or set \
                 POSTGRES_READ_FROM=any",
            ),
            Failure::Unusable(reason) => f.write_str(reason),
            Failure::Hosts(hosts) => {
                let lines: Vec<String> =
                    hosts.iter().map(|(host, failure)| format!("{host}: {failure}")).collect();
                f.write_str(&lines.join("; "))
            }
            Failure::RolledBack => f.write_str("the server rolled the transaction back at its commit"),
            Failure::Timeout => f.write_str("the server did not answer in time"),
            Failure::Missing(what) => f.write_str(what),
            Failure::PartlyApplied(failure) => failure.fmt(f),
        }
    }
}

/// Whether the server ended the session with this error.
fn is_fatal(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Whether the table cannot hold the data: classes 22 (data exception), 23 (integrity constraint), 54 (program limit).
fn is_row_error(error: &DbError) -> bool {
    ["22", "23", "54"].contains(&&error.code().code()[..2])
}
