//! The reading side: a few connections of their own, used from blocking threads, never from an async one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Semaphore;

use super::rows::{COLUMNS, known_status, order, readable};
use super::schema;
use crate::order::{Order, OrderId};
use crate::store::damage::DamageLog;
use crate::store::{Cursor, Damaged, Error, PendingPage, Place, Processed};

/// More would not read faster: each holds a page cache, and a read takes microseconds.
const CONNECTIONS: usize = 4;

/// How many bytes of payload a page has before it ends: how long they are is known only when they come.
const ENOUGH: usize = 8 << 20;

/// Reading connections, opened as they are needed and kept.
pub(super) struct Readers {
    file: PathBuf,
    // std Mutex: held for a push or a pop, never across .await
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Readers {
        Readers { file, idle: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Runs a query on an idle connection, waiting for one if need be.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permits = Arc::clone(&self.permits);
        let permit = Arc::clone(&permits).acquire_owned().await.map_err(|_| closed())?;
        let (file, idle) = (self.file.clone(), Arc::clone(&self.idle));
        let work = move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => schema::open_reader(&file).map_err(|error| Error::Unavailable(error.to_string()))?,
            };
            let answer = query(&connection).map_err(failed)?;
            // A connection whose query failed is not kept: the next read begins with a fresh one.
            if !permits.is_closed() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            Ok(answer)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// Refuses further reads and closes the idle connections.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What a caller learns whose read failed. Only a read of one row fails because of it.
fn failed(error: rusqlite::Error) -> Error {
    match readable::<()>(Err(error)) {
        Ok(Err(damaged)) => Error::Damaged(damaged),
        Ok(Ok(())) => closed(),
        Err(error) => Error::Unavailable(error.to_string()),
    }
}

fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}

pub(super) fn get(connection: &Connection, id: OrderId) -> rusqlite::Result<Option<Order>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.as_bytes()], order).optional()
}

pub(super) fn processed_versions(
    connection: &Connection,
    damage: &DamageLog,
    orders: &[OrderId],
) -> rusqlite::Result<Vec<Option<Processed>>> {
    let mut query =
        connection.prepare_cached("SELECT processed_version, status FROM orders WHERE order_id = ?1")?;
    let mut processed = |id: &OrderId| {
        let found = query.query_row([id.as_bytes()], |row| {
            readable(
                known_status(row, 1, *id).and_then(|status| Ok(Processed { version: row.get(0)?, status })),
            )
        });
        Ok(match found.optional()? {
            Some(Ok(processed)) => Some(processed),
            // The others do not wait until it is mended.
            Some(Err(damaged)) => {
                damage.tell(&damaged, "callers cannot be told how far an order has come");
                None
            }
            None => None,
        })
    };
    orders.iter().map(&mut processed).collect()
}

/// Events of orders that are pending since `before`, or since a time above `ahead`: that of the system's clock.
pub(super) fn pending(
    connection: &Connection,
    damage: &DamageLog,
    (before, ahead): (Timestamp, i64),
    after: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<PendingPage> {
    // A time ahead of the clock says nothing about how long the order has waited.
    let sql = format!(
        "SELECT {COLUMNS}, seq FROM orders INDEXED BY orders_pending
         WHERE processed_version < version AND (updated_at < ?1 OR updated_at > ?5)
           AND (updated_at, seq) > (?2, ?3)
         ORDER BY updated_at, seq LIMIT ?4"
    );
    let (at, row) = match after {
        Some(Cursor(Place::Changed { at, row })) => (at, row),
        // No cursor of ours: from the beginning.
        _ => (i64::MIN, 0),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![before.as_microsecond(), at, row, limit as i64, ahead])?;
    let (mut events, mut last, mut count, mut bytes) = (Vec::new(), None, 0, 0);
    while bytes < ENOUGH
        && let Some(row) = rows.next()?
    {
        match readable(order(row))? {
            Ok(order) => {
                bytes += order.payload.as_str().len();
                events.push(order.into_event());
            }
            // The others do not wait until it is mended.
            Err(damaged) => damage.tell(&damaged, "an event cannot be made"),
        }
        last = Some(Cursor(Place::Changed { at: row.get(6)?, row: row.get(13)? }));
        count += 1;
    }
    Ok(PendingPage {
        events,
        unpublishable: Vec::new(),
        next: last.filter(|_| count == limit || bytes >= ENOUGH),
    })
}

pub(super) fn scan(
    connection: &Connection,
    after: Option<OrderId>,
    limit: usize,
) -> rusqlite::Result<Vec<Result<Order, Damaged>>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_id > ?1 ORDER BY order_id LIMIT ?2");
    // An empty blob sorts before every id.
    let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query_map(params![after, limit as i64], |row| readable(order(row)))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < ENOUGH
        && let Some(row) = rows.next().transpose()?
    {
        bytes += row.as_ref().map_or(0, |order| order.payload.as_str().len());
        found.push(row);
    }
    Ok(found)
}
