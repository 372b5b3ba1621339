//! Finds old rows. Keys and history events are numbered in the order of their arrival, and so in the order of their
//! times: the oldest rows have the lowest numbers. It relies on the store's clock, which never runs backwards, and
//! deletes nothing itself.

use jiff::Timestamp;
use rusqlite::Statement;

/// How many rows were written before a time, at most `limit`, and the number of the last of them. The query returns the
/// numbers and times of at most `?1` rows, the oldest first.
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
