//! The command line: the output of each command, the stream that it prints to, and its exit code. Most tests run the
//! real program; some start it as the first process of a PID namespace or with closed pipes.

pub(crate) mod backup;
pub(crate) mod closed_output;
pub(crate) mod commands;
pub(crate) mod events;
pub(crate) mod orders;
pub(crate) mod services;
pub(crate) mod signals;
