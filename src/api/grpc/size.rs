//! The size of a response that is not written yet: the library makes the bytes of a message only when it sends them.

/// The bytes that a response takes. A method puts it among the extensions of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) usize);
