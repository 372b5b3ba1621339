//! Records that a worker cannot process, on their way to the dead-letter topic: each in a task of its own, so that
//! neither good records nor other bad ones wait for it. The bus bounds their number, because it delivers them. A task
//! ends when its record is written, or when the worker leaves its bus: the record is then redelivered.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::bus::{Bus, Delivery};
use crate::shutdown::Components;
use crate::telemetry::limited;

/// A record, and the reason why a worker cannot process it.
pub(super) type Rejected = (Delivery, String);

/// The way to the dead-letter topic.
pub(super) struct Rejects {
    bus: Arc<dyn Bus>,
    tasks: TaskTracker,
    components: Components,
}

impl Rejects {
    pub(super) fn new(bus: Arc<dyn Bus>) -> Rejects {
        Rejects { bus, tasks: TaskTracker::new(), components: Components::default() }
    }

    /// Sends records there, without waiting for the writes.
    pub(super) fn send(&self, rejected: Vec<Rejected>) {
        for (delivery, reason) in rejected {
            let source = &delivery.source;
            limited!(warn, "dead letter"; ?source, reason, "a record goes to the dead-letter topic");
            let bus = Arc::clone(&self.bus);
            let component = self.components.component("a task that writes a dead letter");
            self.tasks.spawn(async move {
                // Dropped by a panic.
                let component = component;
                if let Err(error) = bus.reject(delivery, &reason).await {
                    limited!(
                        error, "lost dead letter";
                        %error,
                        "the dead letter was not written; the record will be redelivered"
                    );
                }
                component.ends_in_order();
            });
        }
    }

    /// The tasks of this worker, those that process orders included.
    pub(super) fn components(&self) -> Components {
        self.components.clone()
    }

    /// Waits until all tasks have ended. The worker must have left its bus before.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
