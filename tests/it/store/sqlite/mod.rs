//! SQLite: the promises of a store in a folder: the conformance suite, durability and the WAL, clocks that jump, copies
//! of its files, upgrades of older folders, and its indexes at a large size.

pub(crate) mod clock;
pub(crate) mod copies;
pub(crate) mod durability;
pub(crate) mod external_ids;
pub(crate) mod store;
pub(crate) mod upgrades;
pub(crate) mod wal;
