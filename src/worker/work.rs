//! The tasks of a worker: deliveries, each with the order that it is about, and how a batch of them is split. An order
//! may be in a batch more than once, but must not be in one write twice; its newest version goes first, because the
//! older ones are overtaken when that is recorded.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::bus::Delivery;
use crate::order::{Ack, AckStatus, Event, OrderId, Status, Version};
use crate::store::{Completion, Processed};

/// A delivery, and the order that it is about.
pub(super) type Task = (OrderId, Delivery);

/// A task whose order can be recorded.
pub(super) struct Done {
    pub(super) order_id: OrderId,
    pub(super) delivery: Delivery,
    pub(super) completion: Completion,
}

/// A delivery on its way through the worker.
pub(super) trait Work {
    /// The order of the delivery.
    fn order_id(&self) -> OrderId;

    /// The delivery.
    fn delivery(&self) -> &Delivery;

    /// The delivery alone.
    fn into_delivery(self) -> Delivery;

    /// The version that it is about; `None` where its service knows no versions, or where it creates an order.
    fn version(&self) -> Option<Version> {
        let event = self.delivery().event.as_ref().ok()?;
        event.order_id.and(event.version)
    }
}

impl Work for Task {
    fn order_id(&self) -> OrderId {
        self.0
    }

    fn delivery(&self) -> &Delivery {
        &self.1
    }

    fn into_delivery(self) -> Delivery {
        self.1
    }
}

impl Work for Done {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    fn into_delivery(self) -> Delivery {
        self.delivery
    }
}

/// The order that an event is about: the one it names, or the one its record creates.
pub(super) fn target(event: &Event, delivery: &Delivery) -> OrderId {
    let source = &delivery.source;
    event.order_id.unwrap_or_else(|| {
        OrderId::of_record(&source.topic, source.partition, source.offset, source.timestamp)
    })
}

/// Splits a batch into the tasks of orders that it holds more than once, and the others.
pub(super) fn repeated(tasks: Vec<Task>) -> (Vec<Task>, Vec<Task>) {
    let (mut seen, mut twice) = (HashSet::with_capacity(tasks.len()), HashSet::new());
    for (order_id, _) in &tasks {
        if !seen.insert(*order_id) {
            twice.insert(*order_id);
        }
    }
    match twice.is_empty() {
        true => (Vec::new(), tasks),
        false => tasks.into_iter().partition(|(order_id, _)| twice.contains(order_id)),
    }
}

/// Splits a batch. The first part, a sub-batch, holds each order once, with its newest version; an event without a
/// version is never overtaken. The second part keeps the order of the other tasks.
pub(super) fn newest<W: Work>(tasks: Vec<W>) -> (Vec<W>, Vec<W>) {
    let mut chosen: HashMap<OrderId, (usize, Option<Version>, bool)> = HashMap::with_capacity(tasks.len());
    for (at, task) in tasks.iter().enumerate() {
        let version = task.version();
        let (choice, newest, is_closed) =
            chosen.entry(task.order_id()).or_insert((at, version, version.is_none()));
        *is_closed |= version.is_none();
        if !*is_closed && version > *newest {
            (*choice, *newest) = (at, version);
        }
    }
    if chosen.len() == tasks.len() {
        return (tasks, Vec::new());
    }
    let mut at = 0..;
    tasks.into_iter().partition(|task| {
        let index = at.next();
        chosen.get(&task.order_id()).map(|(choice, ..)| *choice) == index
    })
}

/// Whether that version of the order has failed. One that was overtaken has not: the newer one has its own outcome.
pub(super) fn has_failed(version: Version, state: &Processed) -> bool {
    state.version == version && state.status == Status::Failed
}

/// The ACK of a delivery.
pub(super) fn ack(
    delivery: &Delivery,
    order_id: OrderId,
    version: Option<Version>,
    failed: bool,
    processed_at: Timestamp,
) -> Ack {
    let status = match &delivery.event {
        _ if failed => AckStatus::Failed,
        Ok(event) => AckStatus::of_event(event.status),
        Err(_) => AckStatus::Processed,
    };
    Ack { order_id, version, status, processed_at }
}
