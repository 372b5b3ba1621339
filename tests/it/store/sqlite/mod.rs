//! SQLite: what a store in a folder promises, to itself, to its copies and to its own past.

pub(crate) mod clock;
pub(crate) mod copies;
pub(crate) mod durability;
pub(crate) mod external_ids;
pub(crate) mod store;
pub(crate) mod upgrades;
pub(crate) mod wal;
