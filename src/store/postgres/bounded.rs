//! Reading rows with payloads in bounded bites. How long the payloads of a page are is known only when they come, so
//! rows are taken one by one, and no more of them are kept when they are long enough together. A row on which the
//! server fails ends the bite in front of it.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::failure::Failure;
use super::rows::PAYLOAD;

/// How many bytes of payload are enough.
const ENOUGH: usize = 8 << 20;

/// How many times fewer rows are asked for where one of them is at fault. A page of a thousand is alone after three.
const FEWER: usize = 10;

/// The first rows of a statement.
pub(super) struct Bite {
    /// The rows, in the statement's order.
    pub(super) rows: Vec<Row>,
    /// Whether there may be others behind them, which were not kept.
    pub(super) is_cut: bool,
}

/// Reads the rows of a statement whose columns begin with those of orders.
pub(super) async fn read(
    client: &Client,
    statement: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Bite, Failure> {
    let mut stream = pin!(client.query_raw(statement, parameters.iter().copied()).await?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    loop {
        match stream.try_next().await.map_err(Failure::from) {
            Ok(Some(row)) => {
                bytes += row.try_get::<_, Option<&str>>(PAYLOAD)?.map_or(0, str::len);
                rows.push(row);
                if bytes > ENOUGH {
                    return Ok(Bite { rows, is_cut: true });
                }
            }
            Ok(None) => return Ok(Bite { rows, is_cut: false }),
            Err(failure) if failure.may_be_about_a_row() && !rows.is_empty() => {
                return Ok(Bite { rows, is_cut: true });
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How many rows to ask for instead of so many, where one of them is at fault; `None` where it is alone.
pub(super) fn fewer(limit: usize) -> Option<usize> {
    (limit > 1).then(|| (limit / FEWER).max(1))
}
