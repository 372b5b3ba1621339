//! Reads the one message of a call, within the limits of size, time and memory. A prefix holds its length, so a message
//! over the limit is not read at all. Memory is taken only for bytes that have arrived, and once more for the complete
//! message, because the library copies its texts. A body with less or more than one message is rejected. The permit
//! travels among the extensions of the call, so that a method can hold it until its command is committed or refused.

use std::sync::Arc;

use hyper::body::Incoming;

use crate::api::body::{self, Framing, ReceivedBody};
use crate::api::caller::Caller;
use crate::api::options::Options;
use crate::api::problem::Problem;
use crate::order::Invalid;
use crate::service::quota::Permit;

/// The bytes of the prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The largest message of health checks and reflection, which name a service or a file.
pub(super) const SMALL_MESSAGE: usize = 4 << 10;

/// The memory of a call's message, among the extensions of the call.
#[derive(Debug, Clone)]
pub(super) struct Memory(pub(super) Arc<Permit>);

/// A message behind its prefix.
const FRAMED: Framing = Framing {
    size: PREFIX,
    content: |bytes| match announced(bytes) {
        Some(length) if bytes.len() > PREFIX + length => Err(one_message()),
        announced => Ok(announced),
    },
};

/// Reads a message with its prefix.
pub(super) async fn read(
    body: Incoming,
    options: &Options,
    caller: &Caller,
) -> Result<ReceivedBody, Problem> {
    let mut message = body::read(body, options, caller, FRAMED).await?;
    if announced(&message.bytes).map(|length| PREFIX + length) != Some(message.bytes.len()) {
        return Err(one_message());
    }
    // The library copies the texts of the message.
    message.memory.grow(message.bytes.len())?;
    Ok(message)
}

/// The length that the prefix names.
fn announced(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..PREFIX)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn one_message() -> Problem {
    Invalid::new("body", "send one message, whole, as gRPC frames it").into()
}
