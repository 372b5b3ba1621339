//! Whole systems under faults: processes that are killed, stopped and replaced, and servers that become unavailable.
//! The tests check that confirmed orders are not lost, and that pending orders are processed later.

pub(crate) mod cluster;
pub(crate) mod crash_points;
pub(crate) mod crash_under_load;
pub(crate) mod ended_parts;
pub(crate) mod outages;
pub(crate) mod peers;
pub(crate) mod stopping;
