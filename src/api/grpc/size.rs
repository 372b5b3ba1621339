//! The size of a response that is not written yet: the library makes the bytes of a message only when it sends them. A
//! method that returns an order states the size, and the middleware removes it and counts it as memory before the
//! response leaves. A response without a size counts none, so only small ones may lack it.

/// The bytes that a response takes. A method puts it among the extensions of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size(pub(super) usize);
