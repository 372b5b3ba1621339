//! The integration tests, one binary: each module enters by the front door and reads as a list of sentences.
//! What they share is in `support`.

mod bad_input;
mod contract_http;
mod limits;
mod outages;
mod support;
