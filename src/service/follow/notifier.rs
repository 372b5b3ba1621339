//! The notifier: calls followers of orders when there are new history events to read. One task per process reads the
//! whole history, only while there are followers, and notifies them. It passes on offsets and no events, so that a slow
//! reader does not delay others. It reads the store, because other processes write there, too.
//!
//! A follower must register first and read then: events that become visible behind the notifier's offset at that time
//! cause a call, so that none is missed in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::order::{HistoryOffset, HistoryPage, Scope};
use crate::store::{self, History};
use crate::telemetry::LogOnce;

/// How long to wait at the history's end before the next read.
const POLL: Duration = Duration::from_millis(100);

/// How many history events are read at a time.
const PAGE: usize = 500;

/// How long to wait after a failure of the store, or where it has fewer events than it had before.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Notifies followers of orders.
#[derive(Default)]
pub(in crate::service) struct Notifier {
    // std Mutex: held for a few map operations, never across .await
    state: Mutex<State>,
    /// A follower has registered.
    registered: Notify,
    looking: LogOnce,
    reading: LogOnce,
}

#[derive(Default)]
struct State {
    /// The offset up to which the notifier has read; `None` while it does not read because there are no listeners.
    offset: Option<HistoryOffset>,
    /// How often the notifier has started to read.
    begun: u64,
    /// How often a follower has found the notifier's offset lost.
    losses: u64,
    listeners: HashMap<Scope, Vec<Listener>>,
    last_id: u64,
}

struct Listener {
    id: u64,
    /// The offset behind which there may be events that it has not read; `None`: there are none.
    from: Option<HistoryOffset>,
    notify: Arc<Notify>,
}

/// A call to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// There are no events up to this offset for a follower that had read all at its last call.
    pub(super) from: HistoryOffset,
    /// A follower that reads all events of now has read all up to this offset. `None`: the notifier does not read yet,
    /// and calls once more when it does.
    pub(super) upto: Option<HistoryOffset>,
    /// How often the notifier had started to read. Both offsets are of the history as it was at that start.
    pub(super) begun: u64,
}

/// The registration of a follower. Ends when it is dropped.
pub(super) struct Subscription {
    notifier: Arc<Notifier>,
    scope: Scope,
    id: u64,
    notify: Arc<Notify>,
}

impl Notifier {
    /// Registers a follower; the first call comes at once.
    pub(super) fn subscribe(self: &Arc<Self>, scope: Scope) -> Subscription {
        let notify = Arc::new(Notify::new());
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        let listener = Listener { id, from: Some(HistoryOffset::default()), notify: Arc::clone(&notify) };
        state.listeners.entry(scope).or_default().push(listener);
        drop(state);
        self.registered.notify_one();
        Subscription { notifier: Arc::clone(self), scope, id, notify }
    }

    /// Reads and notifies. Never returns.
    pub(in crate::service) async fn run(&self, store: &dyn History) {
        loop {
            self.wait_for_listener().await;
            let looked = self.read(store).await;
            log_outcome(&self.looking, looked.as_ref().err());
            match looked {
                Ok(true) => {}
                Ok(false) => sleep(POLL).await,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Waits for a listener. While there are none, there is not an offset either.
    async fn wait_for_listener(&self) {
        loop {
            {
                let mut state = self.lock();
                if !state.listeners.is_empty() {
                    return;
                }
                state.offset = None;
            }
            self.registered.notified().await;
        }
    }

    /// Reads the next page, and answers whether there is more.
    async fn read(&self, store: &dyn History) -> Result<bool, store::Error> {
        let (offset, losses) = {
            let state = self.lock();
            (state.offset, state.losses)
        };
        match offset {
            None => {
                let end = store.history_end().await?;
                self.begin(end, losses);
                Ok(true)
            }
            Some(offset) => {
                let page = store.history_page(Scope::All, offset, PAGE).await?;
                if page.upto == offset && store.history_newest().await? < offset {
                    // The history has lost its end, as after a backup was restored: start again.
                    self.lock().offset = None;
                    return Ok(false);
                }
                self.notify(offset, &page);
                Ok(page.more)
            }
        }
    }

    /// Starts to read behind `end`, unless a loss was found since `end` was read. Calls all listeners: they must read
    /// the events before it.
    fn begin(&self, end: HistoryOffset, losses: u64) {
        let mut state = self.lock();
        if state.losses != losses {
            return;
        }
        state.offset = Some(end);
        state.begun += 1;
        state.listeners.values_mut().flatten().for_each(|listener| listener.notify(HistoryOffset::default()));
    }

    /// Notifies the listeners of the events of a page that was read from behind `before`.
    fn notify(&self, before: HistoryOffset, page: &HistoryPage) {
        let mut state = self.lock();
        if state.offset != Some(before) {
            // A reset was made meanwhile: these offsets may be lost, and all listeners are called at the next start.
            return;
        }
        let mut from = before;
        for event in &page.events {
            for scope in [Scope::Order(event.order_id), Scope::User(event.user_id)] {
                let listeners = state.listeners.get_mut(&scope).into_iter().flatten();
                listeners.for_each(|listener| listener.notify(from));
            }
            from = event.offset;
        }
        state.offset = Some(page.upto);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    fn notify(&mut self, from: HistoryOffset) {
        // The earliest of several calls counts.
        self.from = Some(self.from.map_or(from, |earlier| earlier.min(from)));
        self.notify.notify_one();
    }
}

impl Subscription {
    /// Waits for the next call.
    pub(super) async fn called(&self) -> Call {
        loop {
            if let Some(call) = self.take() {
                return call;
            }
            self.notify.notified().await;
        }
    }

    /// Logs the outcome of a read, once for all followers.
    pub(super) fn log(&self, error: Option<&store::Error>) {
        log_outcome(&self.notifier.reading, error);
    }

    /// Reports that the history has lost its end, and ends at `end` now. Answers how often the notifier had started
    /// when it last named a lost offset. Where its own offset is lost, it starts again: events up to there would notify
    /// nothing.
    pub(super) fn lost(&self, end: HistoryOffset) -> u64 {
        let mut state = self.notifier.lock();
        match state.offset {
            Some(offset) if offset <= end => state.begun.saturating_sub(1),
            _ => {
                state.offset = None;
                state.losses += 1;
                state.begun
            }
        }
    }

    fn take(&self) -> Option<Call> {
        let mut state = self.notifier.lock();
        let (upto, begun) = (state.offset, state.begun);
        let listener =
            state.listeners.get_mut(&self.scope)?.iter_mut().find(|listener| listener.id == self.id)?;
        listener.from.take().map(|from| Call { from, upto, begun })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.notifier.lock();
        if let Some(listeners) = state.listeners.get_mut(&self.scope) {
            listeners.retain(|listener| listener.id != self.id);
            if listeners.is_empty() {
                state.listeners.remove(&self.scope);
            }
        }
    }
}

/// Logs an outage of the history, and its end, once each.
fn log_outcome(log: &LogOnce, error: Option<&store::Error>) {
    match error {
        Some(error) if log.failed() => {
            tracing::warn!(%error, "the history cannot be read; streams of orders wait");
        }
        None if log.worked() => tracing::info!("the history can be read again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Cause, HistoryEvent, OrderId, Status, UserId};

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 16])
    }

    fn page(events: &[(u64, u8)], upto: u64) -> HistoryPage {
        let event = |(offset, owner): &(u64, u8)| HistoryEvent {
            offset: HistoryOffset(*offset, 0),
            order_id: OrderId::generate(),
            user_id: user(*owner),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            cause: Cause::Command,
            status: Status::New,
            amount: None,
            reason: None,
        };
        HistoryPage { events: events.iter().map(event).collect(), upto: HistoryOffset(upto, 0), more: false }
    }

    fn call(from: u64, upto: Option<u64>) -> Option<Call> {
        let begun = u64::from(upto.is_some());
        Some(Call { from: HistoryOffset(from, 0), upto: upto.map(|offset| HistoryOffset(offset, 0)), begun })
    }

    #[test]
    fn a_follower_reads_at_once_and_again_when_the_notifier_starts() {
        let notifier = Arc::new(Notifier::default());
        let early = notifier.subscribe(Scope::User(user(1)));
        assert_eq!((early.take(), early.take()), (call(0, None), None));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((early.take(), early.take()), (call(0, Some(10)), None));
        let late = notifier.subscribe(Scope::User(user(1)));
        assert_eq!((late.take(), early.take()), (call(0, Some(10)), None));
    }

    #[test]
    fn a_follower_without_events_is_not_called_and_may_skip_ahead_at_its_next_call() {
        let notifier = Arc::new(Notifier::default());
        let [active, quiet] = [1, 2].map(|n| notifier.subscribe(Scope::User(user(n))));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((active.take(), quiet.take()), (call(0, Some(10)), call(0, Some(10))));
        notifier.notify(HistoryOffset(10, 0), &page(&[(11, 1), (12, 1), (15, 1)], 20));
        assert_eq!((active.take(), quiet.take()), (call(10, Some(20)), None));
        notifier.notify(HistoryOffset(20, 0), &page(&[(21, 1), (22, 2), (23, 2)], 23));
        notifier.notify(HistoryOffset(23, 0), &page(&[(24, 2)], 30));
        assert_eq!((active.take(), quiet.take()), (call(20, Some(30)), call(21, Some(30))));
    }

    #[test]
    fn after_a_loss_the_notifier_starts_again_unless_it_has() {
        let notifier = Arc::new(Notifier::default());
        let one = notifier.subscribe(Scope::User(user(1)));
        notifier.begin(HistoryOffset(10, 0), 0);
        // Its offset is lost. The offsets that it names until it starts again may be lost, too.
        assert_eq!((one.lost(HistoryOffset(5, 0)), notifier.lock().offset), (1, None));
        // Reads that began before the loss do not undo the reset.
        notifier.notify(HistoryOffset(10, 0), &page(&[(11, 1)], 11));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((one.take().map(|call| call.begun), notifier.lock().offset), (Some(1), None));
        notifier.notify(HistoryOffset(10, 0), &page(&[(12, 1)], 12));
        assert_eq!(one.take(), None);
        notifier.begin(HistoryOffset(5, 0), 1);
        assert_eq!(one.take().map(|call| call.begun), Some(2));
        // A follower that finds the loss later trusts it.
        assert_eq!((one.lost(HistoryOffset(5, 0)), notifier.lock().offset), (1, Some(HistoryOffset(5, 0))));
    }

    #[test]
    fn a_dropped_subscription_is_removed() {
        let notifier = Arc::new(Notifier::default());
        let [first, second] = [1, 1].map(|n| notifier.subscribe(Scope::User(user(n))));
        drop(first);
        assert_eq!(notifier.lock().listeners.len(), 1);
        drop(second);
        assert!(notifier.lock().listeners.is_empty());
    }
}
