//! The feed: tells those who follow orders that there are new steps to read. One task per process looks at the whole
//! history, only while there are followers, and rings; nothing but a place goes over, so that a slow reader holds
//! nobody up. It asks the store and no channel of this process, for other processes write there, too.
//!
//! A follower registers first and reads then. What becomes visible behind the place where the hub was when it
//! began to read rings for it, so nothing can be missed in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::order::{HistoryOffset, HistoryPage, Scope};
use crate::store::{self, History};
use crate::telemetry::LogOnce;

/// How long to wait after the history's end before looking again.
const POLL: Duration = Duration::from_millis(100);

/// How many steps are looked at in one go.
const PAGE: usize = 500;

/// How long to wait after a failure of the store, or where it has less than was seen of it before.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Rings for those who follow orders.
#[derive(Default)]
pub(in crate::service) struct Notifier {
    // std Mutex: held for a few map operations, never across .await
    state: Mutex<State>,
    /// A follower came.
    came: Notify,
    looking: LogOnce,
    reading: LogOnce,
}

#[derive(Default)]
struct State {
    /// How far the hub has looked; `None` where it does not look because there are no listeners.
    place: Option<HistoryOffset>,
    /// How often it has begun.
    begun: u64,
    /// How often a follower has found the hub's place lost.
    losses: u64,
    listeners: HashMap<Scope, Vec<Listener>>,
    last_id: u64,
}

struct Listener {
    id: u64,
    /// The place behind which there may be steps that it has not read; `None`: there are none.
    from: Option<HistoryOffset>,
    notify: Arc<Notify>,
}

/// A call to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// There is nothing to read up to this place, for one who had read all when it listened the last time.
    pub(super) from: HistoryOffset,
    /// A follower that has read all that is there now has read all up to this place. `None`: the hub does not look yet,
    /// and calls once more when it does.
    pub(super) upto: Option<HistoryOffset>,
    /// How often the hub had begun to look then. Both places are of the history as it was when it began.
    pub(super) begun: u64,
}

/// A place among those whom the hub rings for. Ends when it is dropped.
pub(super) struct Subscription {
    notifier: Arc<Notifier>,
    whose: Scope,
    id: u64,
    notify: Arc<Notify>,
}

impl Notifier {
    /// Registers a follower; the first call comes at once.
    pub(super) fn subscribe(self: &Arc<Self>, whose: Scope) -> Subscription {
        let notify = Arc::new(Notify::new());
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        let listener = Listener { id, from: Some(HistoryOffset::default()), notify: Arc::clone(&notify) };
        state.listeners.entry(whose).or_default().push(listener);
        drop(state);
        self.came.notify_one();
        Subscription { notifier: Arc::clone(self), whose, id, notify }
    }

    /// Looks and rings, for ever.
    pub(in crate::service) async fn run(&self, store: &dyn History) {
        loop {
            self.somebody().await;
            let looked = self.look(store).await;
            tell(&self.looking, looked.as_ref().err());
            match looked {
                Ok(true) => {}
                Ok(false) => sleep(POLL).await,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Waits for a listener. While there is none, the place is forgotten.
    async fn somebody(&self) {
        loop {
            {
                let mut state = self.lock();
                if !state.listeners.is_empty() {
                    return;
                }
                state.place = None;
            }
            self.came.notified().await;
        }
    }

    /// Looks at the next page, and answers whether there is more.
    async fn look(&self, store: &dyn History) -> Result<bool, store::Error> {
        let (place, losses) = {
            let state = self.lock();
            (state.place, state.losses)
        };
        match place {
            None => {
                let end = store.history_end().await?;
                self.begin(end, losses);
                Ok(true)
            }
            Some(place) => {
                let page = store.history_page(Scope::All, place, PAGE).await?;
                if page.upto == place && store.history_newest().await? < place {
                    // The store has lost its end, as after a backup was restored. Begins anew.
                    self.lock().place = None;
                    return Ok(false);
                }
                self.ring(place, &page);
                Ok(page.more)
            }
        }
    }

    /// Begins to look behind a place, unless a loss was found since that place was read. Its listeners must have read
    /// what comes before it.
    fn begin(&self, end: HistoryOffset, losses: u64) {
        let mut state = self.lock();
        if state.losses != losses {
            return;
        }
        state.place = Some(end);
        state.begun += 1;
        state.listeners.values_mut().flatten().for_each(|listener| listener.ring(HistoryOffset::default()));
    }

    /// Rings for those whom a page is about, which was read from behind `before`.
    fn ring(&self, before: HistoryOffset, page: &HistoryPage) {
        let mut state = self.lock();
        if state.place != Some(before) {
            // A reset was made meanwhile: these places may be lost, and all are called when it begins anew.
            return;
        }
        let mut from = before;
        for step in &page.events {
            for whose in [Scope::Order(step.order_id), Scope::User(step.user_id)] {
                let listeners = state.listeners.get_mut(&whose).into_iter().flatten();
                listeners.for_each(|listener| listener.ring(from));
            }
            from = step.offset;
        }
        state.place = Some(page.upto);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    fn ring(&mut self, from: HistoryOffset) {
        // Of several calls the first one reaches back the furthest.
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

    /// Tells the log how reading went, which is one line for all who read.
    pub(super) fn tell(&self, error: Option<&store::Error>) {
        tell(&self.notifier.reading, error);
    }

    /// Tells the hub that the history has lost its end, and ends there now. Answers how often the hub had begun when it
    /// last named a place that is lost. Where it stands at one, it begins anew: what comes up to there rang for none.
    pub(super) fn lost(&self, end: HistoryOffset) -> u64 {
        let mut state = self.notifier.lock();
        match state.place {
            Some(place) if place <= end => state.begun.saturating_sub(1),
            _ => {
                state.place = None;
                state.losses += 1;
                state.begun
            }
        }
    }

    fn take(&self) -> Option<Call> {
        let mut state = self.notifier.lock();
        let (upto, begun) = (state.place, state.begun);
        let listener =
            state.listeners.get_mut(&self.whose)?.iter_mut().find(|listener| listener.id == self.id)?;
        listener.from.take().map(|from| Call { from, upto, begun })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.notifier.lock();
        if let Some(listeners) = state.listeners.get_mut(&self.whose) {
            listeners.retain(|listener| listener.id != self.id);
            if listeners.is_empty() {
                state.listeners.remove(&self.whose);
            }
        }
    }
}

/// Tells the log of an outage of the history, and of its end.
fn tell(log: &LogOnce, error: Option<&store::Error>) {
    match error {
        Some(error) if log.failed() => {
            tracing::warn!(%error, "the history cannot be read; those who follow orders wait");
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

    fn page(steps: &[(u64, u8)], upto: u64) -> HistoryPage {
        let step = |(place, owner): &(u64, u8)| HistoryEvent {
            offset: HistoryOffset(*place, 0),
            order_id: OrderId::generate(),
            user_id: user(*owner),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            cause: Cause::Command,
            status: Status::New,
            amount: None,
            reason: None,
        };
        HistoryPage { events: steps.iter().map(step).collect(), upto: HistoryOffset(upto, 0), more: false }
    }

    fn call(from: u64, upto: Option<u64>) -> Option<Call> {
        let begun = u64::from(upto.is_some());
        Some(Call { from: HistoryOffset(from, 0), upto: upto.map(|place| HistoryOffset(place, 0)), begun })
    }

    #[test]
    fn whoever_comes_reads_at_once_and_again_when_the_hub_begins_to_look() {
        let notifier = Arc::new(Notifier::default());
        let early = notifier.subscribe(Scope::User(user(1)));
        assert_eq!((early.take(), early.take()), (call(0, None), None));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((early.take(), early.take()), (call(0, Some(10)), None));
        let late = notifier.subscribe(Scope::User(user(1)));
        assert_eq!((late.take(), early.take()), (call(0, Some(10)), None));
    }

    #[test]
    fn a_quiet_one_is_left_alone_and_may_jump_when_it_is_called() {
        let notifier = Arc::new(Notifier::default());
        let [busy, quiet] = [1, 2].map(|n| notifier.subscribe(Scope::User(user(n))));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((busy.take(), quiet.take()), (call(0, Some(10)), call(0, Some(10))));
        notifier.ring(HistoryOffset(10, 0), &page(&[(11, 1), (12, 1), (15, 1)], 20));
        assert_eq!((busy.take(), quiet.take()), (call(10, Some(20)), None));
        notifier.ring(HistoryOffset(20, 0), &page(&[(21, 1), (22, 2), (23, 2)], 23));
        notifier.ring(HistoryOffset(23, 0), &page(&[(24, 2)], 30));
        assert_eq!((busy.take(), quiet.take()), (call(20, Some(30)), call(21, Some(30))));
    }

    #[test]
    fn after_a_loss_the_hub_begins_anew_unless_it_has() {
        let notifier = Arc::new(Notifier::default());
        let one = notifier.subscribe(Scope::User(user(1)));
        notifier.begin(HistoryOffset(10, 0), 0);
        // Its place is lost. What it names until it begins anew may be lost, too.
        assert_eq!((one.lost(HistoryOffset(5, 0)), notifier.lock().place), (1, None));
        // Reads that began before the loss do not undo the reset.
        notifier.ring(HistoryOffset(10, 0), &page(&[(11, 1)], 11));
        notifier.begin(HistoryOffset(10, 0), 0);
        assert_eq!((one.take().map(|call| call.begun), notifier.lock().place), (Some(1), None));
        notifier.ring(HistoryOffset(10, 0), &page(&[(12, 1)], 12));
        assert_eq!(one.take(), None);
        notifier.begin(HistoryOffset(5, 0), 1);
        assert_eq!(one.take().map(|call| call.begun), Some(2));
        // One who finds out later trusts it.
        assert_eq!((one.lost(HistoryOffset(5, 0)), notifier.lock().place), (1, Some(HistoryOffset(5, 0))));
    }

    #[test]
    fn who_has_gone_leaves_nothing_behind() {
        let notifier = Arc::new(Notifier::default());
        let [first, second] = [1, 1].map(|n| notifier.subscribe(Scope::User(user(n))));
        drop(first);
        assert_eq!(notifier.lock().listeners.len(), 1);
        drop(second);
        assert!(notifier.lock().listeners.is_empty());
    }
}
