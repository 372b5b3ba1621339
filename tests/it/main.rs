//! The tests that see the system from outside: one binary, a module per promise. What they share is in
//! `support`; no module uses another one's parts.

mod crash_points;
mod crash_under_load;
mod races;
mod support;
