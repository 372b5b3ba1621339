//! OrderStream.
pub mod api;
pub mod app;
pub mod bus;
pub mod cli;
pub mod config;
pub mod error;
pub mod order;
pub mod service;
pub mod shutdown;
pub mod store;
pub mod telemetry;
