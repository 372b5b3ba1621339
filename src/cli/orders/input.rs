//! The text of an argument: the argument itself, `@FILE`, or `-` for standard input. A payload is checked here, by the
//! rules of the domain, where the file and the line are known. Its text never changes. Every message names the source
//! of the text. The whole text is read before a request is sent, so a broken file costs no request.

use std::fs;
use std::io;

use anyhow::{Context, Result};

use crate::order::Payload;

/// The payload that an argument names, checked.
///
/// # Errors
/// Where the file cannot be read, or its text is not JSON that an order can hold.
pub(super) fn read_payload(argument: &str) -> Result<Payload> {
    let (source, text) = read(argument, "payload")?;
    Payload::parse(&text).with_context(|| format!("{source} is not JSON that an order can hold"))
}

/// The text that an argument names, and the name of its source for messages.
pub(super) fn read(argument: &str, what: &str) -> Result<(String, String)> {
    match argument.strip_prefix('@') {
        Some(file) => {
            let source = format!("the {what} in {file}");
            let text = fs::read_to_string(file).with_context(|| source.clone())?;
            Ok((source, text))
        }
        None if argument == "-" => {
            let source = format!("the {what} on standard input");
            let text = io::read_to_string(io::stdin()).with_context(|| source.clone())?;
            Ok((source, text))
        }
        None => Ok((format!("the {what}"), argument.to_owned())),
    }
}
