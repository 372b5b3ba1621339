//! The outstanding events: those that this process has handed to the bus, by order. The sweep skips them. An event is
//! in flight until the bus answers. A confirmed one stays here until the store no longer lists it as pending, so that
//! this process does not publish an event twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::order::{OrderId, Version};

/// An event: the order and the version that it is about.
pub(super) type Key = (OrderId, Version);

/// How long a confirmed event stays although the sweep has not seen it: the sweep leaves new orders out.
const MIN_AGE: Duration = Duration::from_secs(10);

/// Until when the store lists an event as pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingUntil {
    /// Until the bus has confirmed it: a confirmation means that the worker has settled it.
    Confirmed,
    /// Until it is marked published.
    MarkedPublished,
    /// Until the worker has completed it. Only the next sweeps show that.
    Processed,
}

/// The events that are outstanding.
pub(super) struct Outstanding {
    until: PendingUntil,
    // std Mutex: held to look up or change the keys of one batch, never across .await
    events: Mutex<Events>,
}

#[derive(Default)]
struct Events {
    by_order: HashMap<OrderId, Entry>,
    /// The events that ended while a sweep reads a page: the page may list them as pending.
    ended_meanwhile: Option<HashSet<Key>>,
}

#[derive(Clone, Copy)]
struct Entry {
    version: Version,
    /// When the bus confirmed it; `None` while it is in flight.
    confirmed: Option<Instant>,
    /// When a sweep last found it pending.
    seen: Option<Instant>,
}

impl Outstanding {
    pub(super) fn new(until: PendingUntil) -> Outstanding {
        Outstanding { until, events: Mutex::default() }
    }

    /// Adds events that are handed to the bus now.
    pub(super) fn begin(&self, keys: &[Key]) {
        let mut events = self.lock();
        for (order_id, version) in keys {
            let entry = Entry { version: *version, confirmed: None, seen: None };
            let slot = events.by_order.entry(*order_id);
            // The sweep may have read an older version than the fast path has begun meanwhile.
            slot.and_modify(|it| *it = if it.version > *version { *it } else { entry }).or_insert(entry);
        }
    }

    /// The bus has confirmed these events.
    pub(super) fn confirmed(&self, keys: &[Key]) {
        let (mut events, now) = (self.lock(), Instant::now());
        for key in keys {
            if self.until == PendingUntil::Confirmed {
                events.end(*key);
            } else if let Some(entry) = events.entry(*key) {
                entry.confirmed = Some(now);
            }
        }
    }

    /// The bus did not take these events: a sweep may publish them again.
    pub(super) fn failed(&self, keys: impl IntoIterator<Item = Key>) {
        let mut events = self.lock();
        for key in keys {
            events.remove(key);
        }
    }

    /// These events are marked published in the store.
    pub(super) fn marked(&self, keys: &[Key]) {
        if self.until == PendingUntil::MarkedPublished {
            let mut events = self.lock();
            keys.iter().for_each(|key| events.end(*key));
        }
    }

    /// The wanted events that were confirmed before `then` and are still outstanding, at most `most` of them.
    pub(super) fn confirmed_before(
        &self,
        then: Instant,
        most: usize,
        is_wanted: impl Fn(&Key) -> bool,
    ) -> Vec<Key> {
        let events = self.lock();
        let old = events.by_order.iter().filter(|(_, entry)| entry.confirmed.is_some_and(|at| at < then));
        old.map(|(order_id, entry)| (*order_id, entry.version)).filter(is_wanted).take(most).collect()
    }

    /// Removes confirmed events, so that the sweep republishes those that are still pending; answers how many were
    /// removed.
    pub(super) fn remove_confirmed(&self, keys: &[Key]) -> usize {
        let mut events = self.lock();
        keys.iter().filter(|key| events.remove(**key)).count()
    }

    /// Called before the sweep reads a page and asks about each of its events with [`Outstanding::has`]. An event that
    /// ends meanwhile counts as outstanding until [`Outstanding::end_page`].
    pub(super) fn begin_page(&self) {
        self.lock().ended_meanwhile = Some(HashSet::new());
    }

    /// Called when the sweep has asked about all events of its page.
    pub(super) fn end_page(&self) {
        self.lock().ended_meanwhile = None;
    }

    /// Whether this process has handed that event to the bus. The caller is a sweep that found it pending.
    pub(super) fn has(&self, order_id: OrderId, version: Version) -> bool {
        let (mut events, key) = (self.lock(), (order_id, version));
        if let Some(entry) = events.entry(key) {
            entry.seen = Some(Instant::now());
            return true;
        }
        events.ended_meanwhile.as_ref().is_some_and(|ended| ended.contains(&key))
    }

    /// Called when a sweep that began at `began` has read all pending events. The events that it has not seen are
    /// processed.
    pub(super) fn swept(&self, began: Instant) {
        if self.until != PendingUntil::Processed {
            return;
        }
        self.lock().by_order.retain(|_, entry| {
            let is_new = |at: Instant| began.saturating_duration_since(at) < MIN_AGE;
            entry.seen.is_some_and(|at| at >= began) || entry.confirmed.is_none_or(is_new)
        });
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// The entry of an event, unless a newer version of its order has replaced it.
    fn entry(&mut self, (order_id, version): Key) -> Option<&mut Entry> {
        self.by_order.get_mut(&order_id).filter(|entry| entry.version == version)
    }

    /// Removes an event; answers whether it was there.
    fn remove(&mut self, key: Key) -> bool {
        self.entry(key).is_some() && self.by_order.remove(&key.0).is_some()
    }

    /// Removes an event that the store no longer lists as pending.
    fn end(&mut self, key: Key) {
        self.remove(key);
        if let Some(ended) = &mut self.ended_meanwhile {
            ended.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: Version) -> Key {
        (OrderId::generate(), version)
    }

    fn outstanding(until: PendingUntil, keys: &[Key]) -> Outstanding {
        let outstanding = Outstanding::new(until);
        outstanding.begin(keys);
        outstanding
    }

    #[test]
    fn an_event_is_outstanding_until_the_store_no_longer_lists_it_as_pending() {
        let (id, version) = key(3);
        for (until, after_confirmation, after_mark) in [
            (PendingUntil::Confirmed, false, false),
            (PendingUntil::MarkedPublished, true, false),
            (PendingUntil::Processed, true, true),
        ] {
            let events = outstanding(until, &[(id, version)]);
            assert!(events.has(id, version) && !events.has(id, version + 1));
            events.confirmed(&[(id, version)]);
            assert_eq!(events.has(id, version), after_confirmation, "{until:?}");
            events.marked(&[(id, version)]);
            assert_eq!(events.has(id, version), after_mark, "{until:?}");
        }
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let (id, _) = key(1);
        let events = outstanding(PendingUntil::MarkedPublished, &[(id, 2)]);
        events.begin(&[(id, 1)]);
        assert!(events.has(id, 2) && !events.has(id, 1));
    }

    #[test]
    fn an_event_that_ends_while_a_page_is_read_is_outstanding_until_the_page_is_done() {
        let (id, version) = key(1);
        let events = outstanding(PendingUntil::Confirmed, &[(id, version)]);
        events.begin_page();
        events.confirmed(&[(id, version)]);
        assert!(events.has(id, version));
        events.end_page();
        assert!(!events.has(id, version));
    }

    #[test]
    fn an_event_that_failed_is_not_outstanding_and_an_older_answer_does_not_remove_a_newer_version() {
        let (id, _) = key(1);
        let events = outstanding(PendingUntil::MarkedPublished, &[(id, 1)]);
        events.begin(&[(id, 2)]);
        events.failed([(id, 1)]);
        assert!(events.has(id, 2));
        events.failed([(id, 2)]);
        assert!(!events.has(id, 2));
    }

    #[test]
    fn a_sweep_removes_events_that_it_has_not_seen_but_none_that_are_new_or_in_flight() {
        let [processed, pending, in_flight] = [key(1), key(1), key(1)];
        let events = outstanding(PendingUntil::Processed, &[processed, pending, in_flight]);
        events.confirmed(&[processed, pending]);
        events.swept(Instant::now());
        assert!(events.lock().by_order.len() == 3, "all are new");
        let began = Instant::now() + MIN_AGE;
        events.lock().by_order.get_mut(&pending.0).unwrap().seen = Some(began);
        events.swept(began);
        let left = events.lock();
        assert_eq!((left.by_order.len(), left.by_order.contains_key(&processed.0)), (2, false));
    }
}
