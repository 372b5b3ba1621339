//! Records that a worker cannot deal with, on their way to the dead-letter topic: each in a task of its own, so that
//! neither the good records around them nor one another have to wait. How many there may be is the bus's to bound, for
//! it delivers them. They end when they are written, or when the worker leaves and they come again elsewhere.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::bus::{Bus, Delivery};
use crate::shutdown::Components;
use crate::telemetry::limited;

/// A record, and why no worker can deal with it.
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

    /// Sends records there, and does not wait for it.
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
                        "the dead letter was not written; the record comes again"
                    );
                }
                component.ends_in_order();
            });
        }
    }

    /// The tasks of this worker, also those that process.
    pub(super) fn components(&self) -> Components {
        self.components.clone()
    }

    /// Waits until all of them have ended. The worker must have left its bus before.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
