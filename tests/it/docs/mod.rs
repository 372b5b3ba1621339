//! The documentation, checked against the program. The tests execute every fenced block of README.md and docs/, compare
//! it with the API, the events or the sources, or have it in a list in `blocks` with the reason why they do neither.
//! They also check links, the table of problems, the page of settings, the log messages, the named tests and the
//! translation.
//!
//! An HTML comment right before a block on a page names what the block is compared with; `blocks` lists the words.

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
