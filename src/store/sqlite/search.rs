//! Binary search among rows: rows that are numbered in the order of their arrival have ascending times, so they are
//! found by time without an index. They rely on the store's clock, which never runs backwards. A search reads one row
//! for each halving: some thirty among a billion. Its condition must hold for all numbers above one for which it holds,
//! or the search ends at a wrong row.

use rusqlite::{Connection, OptionalExtension};

/// The lowest number from `from` on for which a condition holds; `end` where it holds for none below. The condition
/// must hold for all numbers above one for which it holds.
pub(super) fn lowest(
    from: i64,
    end: i64,
    mut holds: impl FnMut(i64) -> rusqlite::Result<bool>,
) -> rusqlite::Result<i64> {
    let (mut from, mut end) = (from, end);
    while from < end {
        let middle = from + (end - from) / 2;
        if holds(middle)? { end = middle } else { from = middle + 1 }
    }
    Ok(from)
}

/// The number of the first order that was created at that time, in microseconds, or later; one above the newest number
/// where none was.
pub(super) fn created_at(connection: &Connection, time: i64) -> rusqlite::Result<i64> {
    let mut next =
        connection.prepare_cached("SELECT created_at FROM orders WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let mut newest = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM orders")?;
    let newest: i64 = newest.query_row([], |row| row.get(0))?;
    lowest(0, newest + 1, |seq| {
        let created = next.query_row([seq], |row| row.get::<_, i64>(0)).optional()?;
        Ok(created.is_none_or(|created| created >= time))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_matching_number_is_found_at_every_position() {
        for end in 0..20 {
            for wanted in 0..=end {
                assert_eq!(lowest(0, end, |number| Ok(number >= wanted)), Ok(wanted), "{wanted} of {end}");
            }
        }
        assert_eq!(lowest(7, 3, |_| Ok(true)), Ok(7));
    }
}
