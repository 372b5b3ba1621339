//! The SQL of completions, one statement per target status; [`Status::LEGAL`] names the legal changes of a status. The
//! writer prepares them once. A statement must change nothing where its precondition does not hold, and never a deleted
//! order's status.

use std::iter;

use crate::order::Status;

/// A completion of a version: sets `processed_version`, and the other columns where the order may take the status. It
/// stores the time of the version in `source_at`, so that an event without a version that is not newer changes nothing.
pub(super) fn finish_sql(target: Status) -> String {
    let legal = is_or_may_become(target);
    format!(
        "UPDATE orders SET processed_version = version, touched = NULL, updated_at = max(updated_at, ?3),
             source_at = max(coalesce(source_at, updated_at), updated_at),
             status = CASE WHEN {legal} THEN '{target}' ELSE status END,
             amount = CASE WHEN {legal} THEN coalesce(?4, amount) ELSE amount END,
             reason = CASE WHEN {legal} THEN ?5 ELSE reason END{deleted_at}
         WHERE order_id = ?1 AND version = ?2 AND processed_version < version",
        deleted_at = deleted_at(target)
    )
}

/// A completion without a version: applies in the order of the events' own times, and only where the order may take the
/// status or has it already; a deleted order does not change. `updated_at` always increases, so that the entity tag
/// changes.
pub(super) fn overtake_sql(target: Status) -> String {
    format!(
        "UPDATE orders SET source_at = ?2, touched = 1, updated_at = max(updated_at + 1, ?3), status = '{target}',
             amount = coalesce(?4, amount), reason = ?5{deleted_at}
         WHERE order_id = ?1 AND (source_at IS NULL OR source_at < ?2) AND status <> 'deleted'
           AND {legal}",
        deleted_at = deleted_at(target),
        legal = is_or_may_become(target)
    )
}

/// The column for the time of the first deletion.
fn deleted_at(target: Status) -> &'static str {
    if target == Status::Deleted { ", deleted_at = coalesce(deleted_at, ?3)" } else { "" }
}

/// Whether an order may become `target`, as SQL.
pub(super) fn may_become(target: Status) -> String {
    status_is_one_of(target.sources())
}

/// Whether an order is `target` or may become it, as SQL.
fn is_or_may_become(target: Status) -> String {
    status_is_one_of(iter::once(target).chain(target.sources()))
}

/// Not by IN: for a list of more than two SQLite builds a table, at each run.
fn status_is_one_of(statuses: impl Iterator<Item = Status>) -> String {
    let cases: String = statuses.map(|status| format!(" WHEN '{status}' THEN 1")).collect();
    // WHEN NULL never matches, and keeps an empty list legal SQL.
    format!("CASE status WHEN NULL THEN 1{cases} ELSE 0 END")
}
