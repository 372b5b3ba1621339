//! The threads and tasks that a process cannot work without. Each holds a [`Component`] while it runs. Where one ends
//! early, by a panic or by returning, the role that depends on it notices that and shuts the process down: a process
//! that looks alive and does nothing is worse than one that ends.

use std::future::pending;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use tokio::sync::watch;

/// The components of a backend or a role. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Components(watch::Sender<Option<&'static str>>);

/// A component that runs. Dropping it, as a panic does, reports that it has ended by itself.
#[derive(Debug)]
pub struct Component {
    name: &'static str,
    components: Option<Components>,
}

impl Components {
    /// Registers a component; move it into its thread or task.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        Component { name, components: Some(self.clone()) }
    }

    /// Waits until a component has ended by itself, and returns its name.
    pub async fn failed(&self) -> &'static str {
        let mut first = self.0.subscribe();
        let name = first.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        match name {
            Some(name) => name,
            None => pending().await,
        }
    }

    /// The first component that has ended by itself, if one has.
    #[must_use]
    pub fn has_failed(&self) -> Option<&'static str> {
        *self.0.borrow()
    }
}

impl Component {
    /// Reports that the component ends because it was asked to.
    pub fn ends_in_order(mut self) {
        self.components = None;
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        if let Some(Components(failed)) = self.components.take() {
            failed.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(self.name);
                is_first
            });
        }
    }
}

/// Runs a component, and names it in the log where it panics; the panic continues.
pub async fn named<T>(part: &str, work: impl Future<Output = T>) -> T {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!("{part} ended by itself: it panicked");
        resume_unwind(panic)
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_reported_by_its_name_and_one_that_ends_in_order_is_not() {
        let components = Components::default();
        let ending = components.component("the ending one");
        thread::spawn(move || ending.ends_in_order()).join().unwrap();
        assert_eq!(components.has_failed(), None);
        let panicking = components.component("the panicking one");
        let thread = thread::spawn(move || {
            let _panicking = panicking;
            panic!("by a test");
        });
        assert_eq!(components.failed().await, "the panicking one");
        assert!(thread.join().is_err());
    }
}
