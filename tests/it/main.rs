//! The integration tests, as one binary: each module enters by a front door of its own.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod binary;
mod cli;
mod cli_orders;
mod verify;
