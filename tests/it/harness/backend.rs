//! What the golden cases need of a system on any backends. They hold for every implementation of [`Backend`]; a new
//! pair of store and bus joins them by implementing it.

use orderstream::bus::Record;

use crate::clients::grpc::{self, Orders};
use crate::clients::http::Client;
use crate::harness::app::{Setup, TestApp};
use crate::harness::bus::Traffic;

/// A system under test: api and worker on some store and some bus, with no orders yet.
pub(crate) trait Backend: Sized {
    /// Whether a payload is kept byte for byte. Otherwise it is kept as a value: with every digit, but with white
    /// space, exponents and the order of members as the store writes them.
    const KEEPS_TEXT: bool;

    /// Starts the system on empty backends of its own.
    async fn start(setup: Setup) -> Self;

    /// A client of its api.
    fn client(&self) -> &Client;

    /// A client of its api over gRPC.
    fn grpc(&self) -> Orders;

    /// Waits until the service has published `count` events of an order, and answers them as on the wire.
    async fn events(&self, order_id: &str, count: usize) -> Vec<Record>;

    /// Waits until `count` ACKs of an order have been sent, and answers them as on the wire.
    async fn acks(&self, order_id: &str, count: usize) -> Vec<Record>;

    /// Puts a record of another service on the events' topic, has it delivered that many times, and waits until the
    /// worker has settled each delivery.
    async fn feed(&mut self, record: Record, deliveries: usize);

    /// Stops the worker in order.
    async fn stop_worker(&mut self);

    /// Starts the worker again.
    async fn start_worker(&mut self);

    /// Stops all roles, asserts that no order is pending, and answers the traffic of the bus.
    async fn finish(self) -> Traffic;
}

/// The embedded store and the in-process bus.
pub(crate) type Embedded = OneProcess<false>;

/// Postgres and the in-process bus.
pub(crate) type PostgresInOneProcess = OneProcess<true>;

/// Api and worker in one process, with or without Postgres.
pub(crate) struct OneProcess<const POSTGRES: bool>(TestApp);

impl<const POSTGRES: bool> Backend for OneProcess<POSTGRES> {
    const KEEPS_TEXT: bool = !POSTGRES;

    async fn start(setup: Setup) -> OneProcess<POSTGRES> {
        OneProcess(if POSTGRES { setup.start_on_postgres().await } else { setup.start().await })
    }

    fn client(&self) -> &Client {
        &self.0.client
    }

    fn grpc(&self) -> Orders {
        grpc::connect(self.0.grpc)
    }

    async fn events(&self, order_id: &str, count: usize) -> Vec<Record> {
        let traffic = self.0.journal.until(|traffic| traffic.events_of(order_id).len() >= count).await;
        traffic.events_of(order_id)
    }

    async fn acks(&self, order_id: &str, count: usize) -> Vec<Record> {
        let traffic = self.0.journal.until(|traffic| traffic.acks_of(order_id).len() >= count).await;
        traffic.acks_of(order_id)
    }

    async fn feed(&mut self, record: Record, deliveries: usize) {
        self.0.bus.feed(record, deliveries).await;
    }

    async fn stop_worker(&mut self) {
        self.0.stop_worker().await;
    }

    async fn start_worker(&mut self) {
        self.0.start_worker();
    }

    async fn finish(self) -> Traffic {
        self.0.finish().await
    }
}
