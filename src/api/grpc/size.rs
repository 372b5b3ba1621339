//! The size of a response that is not written yet: the library makes the bytes of a message only when it sends them.

/// How many bytes a response takes up. A method puts it among the extensions of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) usize);
