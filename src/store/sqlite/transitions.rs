//! The statements of completions, one text per target status: what an order may become is taken from [`Status::LEGAL`].

use std::iter;

use crate::order::Status;

/// A completion of a version: moves `processed_version`, and the rest where the order may take that status. The
/// time of the version is noted, so that an event without a version that is no newer changes nothing.
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

/// A completion without a version: in the order of the events' own times, and only where the order may take
/// that status. To stay as it is is no step, but for a deleted order, which nothing touches. The time of the change is
/// a new one, by which its entity tag differs.
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

/// A deletion notes its time, once.
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

/// Not by IN: of a list of more than two SQLite makes a table, each time that it runs.
fn status_is_one_of(statuses: impl Iterator<Item = Status>) -> String {
    let cases: String = statuses.map(|status| format!(" WHEN '{status}' THEN 1")).collect();
    // Nothing equals NULL, and so no list is too short.
    format!("CASE status WHEN NULL THEN 1{cases} ELSE 0 END")
}
