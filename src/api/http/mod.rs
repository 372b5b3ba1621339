//! The HTTP API. `router` is the index of every URL, `middleware` runs before and after each handler, and `policy`
//! holds the rules of HTTP for all requests. Each handler has a file with its bodies and its description; code that
//! several handlers share has a file of its own. Handlers know the service and the table of problems, never a
//! connection or a store.

mod accept;
mod change;
mod change_response;
mod conditions;
mod cors;
mod delete_order;
pub(super) mod docs;
mod etag;
mod event_stream;
mod follow_orders;
mod get_history;
mod get_order;
mod get_problem;
mod health;
mod history_event_body;
mod hosts;
mod list_orders;
pub(super) mod middleware;
mod order_body;
mod path;
pub(super) mod policy;
mod preconditions;
mod prefer;
pub(super) mod problem_response;
mod put_order;
mod query;
mod request_bodies;
mod response;
pub(super) mod router;
pub(super) mod socket;
mod submit_batch;
mod submit_order;
mod target;
