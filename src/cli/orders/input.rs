//! What an argument gives: the text itself, `@FILE`, or `-` for standard input. A payload is checked here, where the file
//! and the line are known. No digit of it changes.

use std::fs;
use std::io;

use anyhow::{Context, Result};

use crate::order::Payload;

/// Takes a payload from where the argument says, and checks it here, where the file and the line are known.
pub(super) fn read_payload(argument: &str) -> Result<Payload> {
    let (place, text) = read(argument, "payload")?;
    Payload::parse(&text).with_context(|| format!("{place} is not JSON that an order can hold"))
}

/// The text that an argument names, and what it is called.
pub(super) fn read(argument: &str, what: &str) -> Result<(String, String)> {
    match argument.strip_prefix('@') {
        Some(file) => {
            let place = format!("the {what} in {file}");
            let text = fs::read_to_string(file).with_context(|| place.clone())?;
            Ok((place, text))
        }
        None if argument == "-" => {
            let place = format!("the {what} on standard input");
            let text = io::read_to_string(io::stdin()).with_context(|| place.clone())?;
            Ok((place, text))
        }
        None => Ok((format!("the {what}"), argument.to_owned())),
    }
}
