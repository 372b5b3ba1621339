//! Reads rows with payloads in bounded chunks. The length of the payloads is known only when they arrive, so rows are
//! taken one by one, and reading ends when they are long enough together. A row on which the server fails ends the
//! chunk in front of it.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::failure::Failure;
use super::rows::PAYLOAD;

/// At how many bytes of payload a chunk ends.
const CHUNK_BYTES: usize = 8 << 20;

/// By how much the number of rows is divided when one of them is at fault. A page of a thousand needs three divisions.
const DIVISOR: usize = 10;

/// The first rows of a statement.
pub(super) struct Chunk {
    /// The rows, in the statement's order.
    pub(super) rows: Vec<Row>,
    /// Whether more rows may follow, which were not read.
    pub(super) is_cut: bool,
}

/// Reads a chunk of a statement whose columns begin with those of orders.
pub(super) async fn read(
    client: &Client,
    statement: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Chunk, Failure> {
    let mut stream = pin!(client.query_raw(statement, parameters.iter().copied()).await?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        match stream.try_next().await.map_err(Failure::from) {
            Ok(Some(row)) => {
                bytes += row.try_get::<_, Option<&str>>(PAYLOAD)?.map_or(0, str::len);
                rows.push(row);
                if bytes > CHUNK_BYTES {
                    return Ok(Chunk { rows, is_cut: true });
                }
            }
            Ok(None) => return Ok(Chunk { rows, is_cut: false }),
            Err(failure) if failure.may_concern_a_row() && !rows.is_empty() => {
                return Ok(Chunk { rows, is_cut: true });
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How many rows to request instead of so many when one of them is at fault; `None` where it is a single row.
pub(super) fn fewer(limit: usize) -> Option<usize> {
    (limit > 1).then(|| (limit / DIVISOR).max(1))
}
