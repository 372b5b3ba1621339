//! The command line: what each command prints, where it prints it, and the code that it ends with.

pub(crate) mod backup;
pub(crate) mod closed_output;
pub(crate) mod commands;
pub(crate) mod events;
pub(crate) mod orders;
pub(crate) mod services;
pub(crate) mod signals;
