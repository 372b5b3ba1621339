//! The HTTP front: the routes and their handlers, and what every request passes before it reaches one. `router` is the
//! index of every URL, `middleware` the way in and out; each handler has a file of its own. Handlers know the service
//! and the table of problems, and neither a connection nor a store.

pub(super) mod accept;
pub(super) mod conditions;
pub(super) mod cors;
pub(super) mod docs;
pub(super) mod etag;
pub(super) mod follow_orders;
pub(super) mod get_history;
pub(super) mod get_order;
pub(super) mod health;
pub(super) mod hosts;
pub(super) mod list_orders;
pub(super) mod middleware;
pub(super) mod order_body;
pub(super) mod policy;
pub(super) mod prefer;
pub(super) mod query;
pub(super) mod request_bodies;
pub(super) mod router;
pub(super) mod socket;
pub(super) mod submit_batch;
pub(super) mod submit_order;
