//! OrderStream.
/// The bus.
pub mod bus;
pub mod error;
pub mod order;
pub mod store;
