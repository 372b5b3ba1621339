//! The history: steps are numbered by the one thread that writes, so they become visible in the order of their
//! numbers, and whoever has read up to one has missed none before it. A number is never given out twice, also when the
//! newest steps have been dropped.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::clean;
use super::rows::{corrupt, known_status, readable};
use super::search::lowest;
use crate::order::{
    Amount, Cause, HistoryCursor, OrderId, Sequence, Status, Step, Stretch, UserId, Version, Whose,
};
use crate::store::part::Found;
use crate::store::{Basis, Completion, MAX_PART, Part};
use crate::telemetry::limited;

/// How many steps are looked at, at most, for a page of those of one user.
const LOOKED_AT: usize = 10_000;

/// The columns that [`step`] reads, in its order, and where they are from.
const STEPS: &str =
    "SELECT h.seq, o.order_id, o.user_id, h.version, h.at, h.cause, h.status, h.amount, h.reason
                       FROM history h JOIN orders o ON o.seq = h.order_seq";

/// Steps of one order.
const OF_ORDER: &str = "h.order_seq = (SELECT seq FROM orders WHERE order_id = ?1)";

/// The writer's side. Cleans, but writes nothing, where no history is wanted.
pub(super) struct History<'c> {
    is_wanted: bool,
    command: Statement<'c>,
    completion: Statement<'c>,
    oldest: Statement<'c>,
    drop: Statement<'c>,
    dropped: Statement<'c>,
    /// The number of the next step.
    next: i64,
}

impl<'c> History<'c> {
    pub(super) fn prepare(connection: &'c Connection, is_wanted: bool) -> rusqlite::Result<History<'c>> {
        Ok(History {
            is_wanted,
            command: connection.prepare(
                "INSERT INTO history (seq, order_seq, version, at, cause, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            // Where the status stayed another one, so did amount and reason.
            completion: connection.prepare(
                "INSERT INTO history (seq, order_seq, version, at, cause, status, amount, reason)
                 SELECT ?1, seq, version, ?3, ?4, status, CASE status WHEN ?5 THEN ?6 END,
                        CASE status WHEN ?5 THEN ?7 END
                   FROM orders WHERE order_id = ?2",
            )?,
            oldest: connection.prepare("SELECT seq, at FROM history ORDER BY seq LIMIT ?1")?,
            drop: connection.prepare("DELETE FROM history WHERE seq <= ?1")?,
            dropped: connection.prepare("UPDATE history_dropped SET seq = max(seq, ?1)")?,
            next: newest(connection)? + 1,
        })
    }

    /// Writes the step of a command that was carried out on the order of that row.
    pub(super) fn commanded(
        &mut self,
        row: i64,
        version: Version,
        at: Timestamp,
        status: Status,
    ) -> rusqlite::Result<()> {
        if self.is_wanted {
            let (at, cause) = (at.as_microsecond(), letter(Cause::Command));
            self.command.execute(params![self.next, row, version, at, cause, status.as_str()])?;
            self.next += 1;
        }
        Ok(())
    }

    /// Writes the step of a completion that the order has taken.
    pub(super) fn completed(
        &mut self,
        completion: &Completion,
        amount: Option<&str>,
        at: Timestamp,
    ) -> rusqlite::Result<()> {
        if self.is_wanted {
            let (id, target) = (completion.order_id.as_bytes(), completion.status.as_str());
            let cause = letter(match completion.basis {
                Basis::Version(_) => Cause::Worker,
                Basis::Unversioned(_) | Basis::Creation(_) => Cause::Event,
            });
            let at = at.as_microsecond();
            self.completion.execute(params![self.next, id, at, cause, target, amount, completion.reason])?;
            self.next += 1;
        }
        Ok(())
    }

    /// Drops the oldest steps, and answers how many.
    pub(super) fn clean(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let (count, last) = clean::oldest(&mut self.oldest, before, limit)?;
        if let Some(last) = last {
            self.drop.execute([last])?;
            self.dropped.execute([last])?;
        }
        Ok(count)
    }
}

/// A cause as the table has it: there is one in every row.
fn letter(cause: Cause) -> &'static str {
    match cause {
        Cause::Command => "c",
        Cause::Worker => "w",
        Cause::Event => "e",
    }
}

/// The number of the newest step there ever was.
fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let mut query = connection.prepare_cached(
        "SELECT max(coalesce((SELECT max(seq) FROM history), 0), (SELECT seq FROM history_dropped))",
    )?;
    query.query_row([], |row| row.get(0))
}

/// Where the history ends now.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<Sequence> {
    newest(connection).map(place)
}

/// The place of the newest step that was dropped.
pub(super) fn dropped(connection: &Connection) -> rusqlite::Result<Sequence> {
    let mut query = connection.prepare_cached("SELECT seq FROM history_dropped")?;
    query.query_row([], |row| row.get(0)).map(place)
}

/// The steps of an order behind a cursor that belong to the next so many versions.
pub(super) fn of_order(
    connection: &Connection,
    order_id: OrderId,
    after: HistoryCursor,
    versions: u32,
) -> rusqlite::Result<Part> {
    let mut query = connection.prepare_cached(&format!(
        "{STEPS} WHERE {OF_ORDER} AND h.version >= ?2 AND (h.version > ?2 OR h.seq > ?3) AND h.version <= ?4
          ORDER BY h.version, h.seq LIMIT {}",
        MAX_PART + 1
    ))?;
    let range = params![order_id.as_bytes(), after.version(), number(after.after()), after.last_of(versions)];
    let mut rows = query.query(range)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Found { version: row.get(3)?, sequence: place(row.get(0)?), step: step(row)? });
    }
    Ok(Part::of(found))
}

/// The newest step of an order, if it is one of that version or a later one.
pub(super) fn newest_step(
    connection: &Connection,
    order_id: OrderId,
    version: Version,
) -> rusqlite::Result<Option<Step>> {
    let mut query = connection.prepare_cached(&format!(
        "{STEPS} WHERE {OF_ORDER} AND h.version >= ?2 ORDER BY h.version DESC, h.seq DESC LIMIT 1"
    ))?;
    query.query_row(params![order_id.as_bytes(), version], step).optional().map(Option::flatten)
}

/// A stretch of the history behind a place.
pub(super) fn steps(
    connection: &Connection,
    of: Whose,
    after: Sequence,
    limit: usize,
) -> rusqlite::Result<Stretch> {
    let (limit, behind) = (limit.max(1), number(after));
    // Read first: all up to there is seen by what reads the steps.
    let end = end(connection)?;
    let look_at = match of {
        Whose::User(_) => LOOKED_AT.max(limit),
        Whose::All | Whose::Order(_) => limit,
    };
    let count = look_at as i64;
    let mut query;
    let mut rows = match of {
        Whose::All | Whose::User(_) => {
            query =
                connection.prepare_cached(&format!("{STEPS} WHERE h.seq > ?1 ORDER BY h.seq LIMIT ?2"))?;
            query.query([behind, count])?
        }
        Whose::Order(id) => {
            // An order's versions grow with the numbers of its steps: its index has them in their order, too.
            query = connection.prepare_cached(&format!(
                "{STEPS} WHERE {OF_ORDER} AND h.version >= ?2 AND h.seq > ?3 ORDER BY h.version, h.seq LIMIT ?4"
            ))?;
            query.query(params![id.as_bytes(), version_behind(connection, id, behind)?, behind, count])?
        }
    };
    let mut stretch = Stretch { steps: Vec::new(), upto: after, more: false };
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        stretch.upto = place(row.get(0)?);
        if of.includes(OrderId::from_bytes(row.get(1)?), UserId::from_bytes(row.get(2)?)) {
            stretch.steps.extend(step(row)?);
        }
        if looked_at == look_at || stretch.steps.len() == limit {
            stretch.more = true;
            return Ok(stretch);
        }
    }
    stretch.upto = stretch.upto.max(end);
    Ok(stretch)
}

/// The lowest version of an order that has steps behind that number, or one above its newest.
fn version_behind(connection: &Connection, order_id: OrderId, behind: i64) -> rusqlite::Result<Version> {
    let mut newest = connection.prepare_cached(&format!(
        "SELECT h.version, h.seq FROM history h WHERE {OF_ORDER} AND h.version <= ?2
         ORDER BY h.version DESC, h.seq DESC LIMIT 1"
    ))?;
    let mut newest = |version: Version| {
        let found = newest.query_row(params![order_id.as_bytes(), version], |row| {
            Ok((row.get::<_, Version>(0)?, row.get::<_, i64>(1)?))
        });
        found.optional()
    };
    let Some((last, _)) = newest(Version::MAX)? else { return Ok(0) };
    lowest(1, last + 1, |version| Ok(newest(version)?.is_some_and(|(_, seq)| seq > behind)))
}

/// The number of the step at that place.
fn number(place: Sequence) -> i64 {
    i64::try_from(place.0).unwrap_or(i64::MAX)
}

/// The place of the step of that number: none is negative.
fn place(seq: i64) -> Sequence {
    Sequence(u64::try_from(seq).unwrap_or(0), 0)
}

/// Reads a step from a row of [`STEPS`]. One that no version of this program wrote is reported and passed over: the
/// others must not wait until somebody mends it.
fn step(row: &Row<'_>) -> rusqlite::Result<Option<Step>> {
    let order_id = OrderId::from_bytes(row.get(1)?);
    let read = || {
        let (letters, amount) = (row.get_ref(5)?.as_str()?, row.get_ref(7)?.as_str_or_null()?);
        let cause = Cause::ALL.into_iter().find(|cause| letter(*cause) == letters);
        let amount =
            amount.map(|text| Amount::parse(text).ok_or_else(|| corrupt(order_id, 7, "is no amount")));
        Ok(Step {
            sequence: place(row.get(0)?),
            order_id,
            user_id: UserId::from_bytes(row.get(2)?),
            version: row.get(3)?,
            at: Timestamp::from_microsecond(row.get(4)?)
                .map_err(|_| corrupt(order_id, 4, "is out of the range of times"))?,
            cause: cause.ok_or_else(|| corrupt(order_id, 5, "is no cause"))?,
            status: known_status(row, 6, order_id)?,
            amount: amount.transpose()?,
            reason: row.get(8)?,
        })
    };
    let step = readable(read())?;
    Ok(step
        .inspect_err(
            |damaged| limited!(error, "damaged step"; %damaged, "a step of the history cannot be read"),
        )
        .ok())
}
