//! The id of a request, in `X-Request-Id` for both protocols. Each failure in the log names it, so that a caller's
//! report leads to the line. A caller's own id is never changed, only replaced, by a UUIDv7, where it is empty, longer
//! than 128 bytes, or not visible ASCII: an id is always short, and fits in a header and in a line of the log.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is accepted from a caller, in bytes.
const LONGEST: usize = 128;

/// The caller's id for the request where it is short and visible ASCII; a new one otherwise.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    given.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        HeaderValue::from_str(Uuid::now_v7().as_simple().encode_lower(&mut text))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}
