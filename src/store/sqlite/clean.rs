//! Cleaning: what is kept for a time only is numbered in the order of its arrival, and so in the order of its times;
//! what is too old stands at the beginning.

use jiff::Timestamp;
use rusqlite::Statement;

/// The rows that were written before a time, the oldest first and at most `limit`: how many, and the last of them. The
/// query answers number and time of at most `?1` rows, the oldest first.
pub(super) fn oldest(
    query: &mut Statement<'_>,
    before: Timestamp,
    limit: usize,
) -> rusqlite::Result<(usize, Option<i64>)> {
    let mut rows = query.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut count, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= before.as_microsecond() {
            break;
        }
        count += 1;
        last = Some(row.get(0)?);
    }
    Ok((count, last))
}
