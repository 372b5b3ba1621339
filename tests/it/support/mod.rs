//! What the integration tests share: an HTTP client, and whole systems to point it at. Nothing here knows what
//! a right answer is; that is the tests' own.

#[expect(dead_code, reason = "its users follow")]
pub(crate) mod client;
