//! The documentation, held to what the program does. Every fenced block of README.md and docs/ is executed, compared
//! with what the API, the events or the sources say, or listed in `blocks` with the reason why it is neither. Links,
//! the table of problems, the page of settings, the log messages, the named tests and the translation are checked, too.
//!
//! A page says in an HTML comment right before a block what the block is compared with; `blocks` lists the words.

mod answers;
mod blocks;
mod configuration;
mod console;
mod examples;
mod grpcurl;
mod links;
mod log_messages;
mod named_tests;
mod page;
mod problems;
mod prose;
mod references;
mod server;
mod shapes;
mod shell;
mod translation;
