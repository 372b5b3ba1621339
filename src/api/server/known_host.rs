//! The host that a connection has named. It is remembered so that each further request of the connection is checked by
//! one comparison of bytes. Only an accepted host may be stored here. The first one stays; one of more than 46 bytes is
//! not remembered, and every request with it is checked in full. Nothing here allocates.

use std::sync::OnceLock;

use hyper::header::HeaderValue;

/// The first accepted host of a connection, where it is short. It is stored in place and not on the heap, because every
/// request compares it.
#[derive(Debug, Default)]
pub(in crate::api) struct KnownHost(OnceLock<(u8, [u8; KNOWN_HOST])>);

/// The longest host that is remembered, in bytes.
const KNOWN_HOST: usize = 46;

impl KnownHost {
    /// Remembers a host, where it is short and the first one.
    pub(in crate::api) fn set(&self, host: &HeaderValue) {
        let mut bytes = [0; KNOWN_HOST];
        if let (Some(buffer), Ok(size)) = (bytes.get_mut(..host.len()), u8::try_from(host.len())) {
            buffer.copy_from_slice(host.as_bytes());
            // The first one stays: few clients name another on the same connection.
            let _ = self.0.set((size, bytes));
        }
    }

    /// Whether it is that host.
    pub(in crate::api) fn is(&self, host: &HeaderValue) -> bool {
        let known = self.0.get().and_then(|(size, bytes)| bytes.get(..usize::from(*size)));
        known == Some(host.as_bytes())
    }
}
