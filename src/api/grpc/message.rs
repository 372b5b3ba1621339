//! Reads the one message of a call, within the limits of size, time and memory. Its length stands before it, so that a
//! message over the limit is not read at all, and one below it takes room for what it is.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::api::Options;
use crate::api::budget::Budget;
use crate::api::problem::{BODY_TIMEOUT, BODY_TOO_LARGE, Problem};
use crate::order::Invalid;

/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Reads a message with its prefix. The permit grows by its length.
pub(super) async fn read(
    body: Incoming,
    options: &Options,
    budget: &Budget,
    permit: &mut OwnedSemaphorePermit,
) -> Result<Bytes, Problem> {
    let read = timeout(options.body_timeout, read_all(body, options.body_limit, budget, permit)).await;
    read.unwrap_or_else(|_| {
        let limit = options.body_timeout.as_secs_f32();
        Err(Problem::new(BODY_TIMEOUT, format!("body: send all of it within {limit} seconds")))
    })
}

async fn read_all(
    mut body: Incoming,
    limit: usize,
    budget: &Budget,
    permit: &mut OwnedSemaphorePermit,
) -> Result<Bytes, Problem> {
    let (mut bytes, mut whole) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Invalid::new("body", format!("could not be read to its end: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if whole.is_none()
            && let Some(length) = announced(&bytes)
        {
            if length > limit {
                let detail = format!("body: send at most {limit} bytes");
                return Err(Problem::new(BODY_TOO_LARGE, detail));
            }
            permit.merge(budget.take(length)?);
            whole = Some(PREFIX + length);
        }
        if whole.is_some_and(|whole| bytes.len() > whole) {
            return Err(one_message());
        }
    }
    match whole {
        Some(whole) if bytes.len() == whole => Ok(bytes.freeze()),
        _ => Err(one_message()),
    }
}

/// The length that the prefix names.
fn announced(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..PREFIX)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn one_message() -> Problem {
    Invalid::new("body", "send one message, whole, as gRPC frames it").into()
}
