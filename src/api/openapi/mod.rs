//! The OpenAPI document: its frame, and the builders of parameters, answers and problems.

pub(super) mod document;
pub(super) mod parameters;
pub(super) mod problems;
pub(super) mod responses;
