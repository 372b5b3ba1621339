//! A follower: a place in the history, which reads its steps from the store page by page, when the feed calls it. It
//! holds one page at a time and waits for no other follower, so that a slow one takes nothing from the others.

use std::sync::Arc;

use tokio::time::sleep;

use super::notifier::{PAUSE, Subscription};
use crate::order::{HistoryEvent, HistoryOffset, HistoryPage, Scope};
use crate::service::quota::Peer;
use crate::service::turns::Turn;
use crate::store::{self, History};

/// The most steps in a page.
const PAGE: usize = 100;

/// How many bytes the steps of a page take, at most, unless the first one alone takes more: a stream holds a page for
/// as long as its client reads nothing.
const PAGE_BYTES: usize = 32 << 10;

/// How many bytes a step takes as text, besides its amount and its reason.
const STEP_BYTES: usize = 300;

/// What a follower gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Steps, at least one.
    Steps(Vec<HistoryEvent>),
    /// Steps behind the first place, up to the second, were dropped before the follower came to them: it was slow for
    /// as long as steps are kept. Or the history ends at the second place, before the first: a backup was restored.
    Lost {
        /// Where the follower stood.
        after: HistoryOffset,
        /// Where it goes on.
        upto: HistoryOffset,
    },
}

/// Where a follower goes on who has come to that place. There, unless steps behind it have been dropped, or it is a
/// place of another history, or of this one before a backup was restored.
pub(super) async fn going_on(
    store: &dyn History,
    after: HistoryOffset,
) -> Result<HistoryOffset, store::Error> {
    let dropped = store.history_dropped().await?;
    match after {
        _ if after < dropped => Ok(dropped),
        _ if after > store.history_newest().await? => Ok(store.history_end().await?.max(dropped)),
        _ => Ok(after),
    }
}

/// Leaves the steps of a page that are too much for a page to the next one.
fn cut(page: &mut HistoryPage) {
    let mut bytes = 0;
    let fits = |step: &&HistoryEvent| {
        let amount = step.amount.as_ref().map_or(0, |amount| amount.to_string().len());
        // A byte of a reason is six as JSON, at most.
        bytes += STEP_BYTES + amount + 6 * step.reason.as_ref().map_or(0, String::len);
        bytes <= PAGE_BYTES
    };
    let count = page.events.iter().take_while(fits).count().max(1);
    if count < page.events.len() {
        page.events.truncate(count);
        page.upto = page.events.last().map_or(page.upto, |step| step.offset);
        page.more = true;
    }
}

/// What a follower is called for, and whose turn it is when it reads.
pub(super) struct Place {
    pub(super) feed: Subscription,
    pub(super) whose: Scope,
    pub(super) peer: Arc<Peer>,
}

/// One who follows orders.
pub(super) struct Follower {
    store: Arc<dyn History>,
    place: Place,
    /// All up to here has been read.
    after: HistoryOffset,
    /// Known before anything was read.
    first: Option<HistoryEvent>,
    /// Up to where there may be something to read; `None`: not called.
    reading: Option<HistoryOffset>,
    /// A hub that has begun no more often than this may name places that are lost. None is distrusted at first.
    distrusted: u64,
}

/// What a follower has read.
struct Reading {
    /// The place where it goes on.
    begin: HistoryOffset,
    page: HistoryPage,
    /// Where the store has less than the hub has seen: a place that no step of the store is behind yet. The hub may
    /// have asked another server of the store, such as the one before a standby took over.
    newest: Option<HistoryOffset>,
}

impl Follower {
    /// A follower that has read all up to a place, and knows a first step where there is one.
    pub(super) fn new(
        store: Arc<dyn History>,
        place: Place,
        after: HistoryOffset,
        first: Option<HistoryEvent>,
    ) -> Follower {
        Follower { store, place, after, first, reading: None, distrusted: 0 }
    }

    /// The next page, as soon as there is one.
    pub(super) async fn page(&mut self) -> News {
        if let Some(step) = self.first.take() {
            return News::Steps(vec![step]);
        }
        loop {
            let upto = match self.reading {
                Some(upto) => upto,
                None => {
                    let call = self.place.feed.called().await;
                    let is_trusted = call.begun > self.distrusted;
                    self.after = if is_trusted { self.after.max(call.from) } else { self.after };
                    *self.reading.insert(call.upto.filter(|_| is_trusted).unwrap_or_default())
                }
            };
            let read = self.read(upto).await;
            self.place.feed.tell(read.as_ref().err());
            let Ok(Reading { begin, page, newest }) = read else {
                sleep(PAUSE).await;
                continue;
            };
            if begin != self.after {
                if begin < self.after {
                    // The history has lost its end. It goes on there, and not where the hub has come to.
                    self.reading = Some(HistoryOffset::default());
                    self.distrusted = self.place.feed.lost(begin);
                }
                return News::Lost { after: std::mem::replace(&mut self.after, begin), upto: begin };
            }
            self.after = self.after.max(page.upto);
            let is_behind = newest.is_some_and(|newest| upto <= newest);
            if let Some(newest) = newest.filter(|_| !is_behind) {
                // The store will never have what the hub has seen.
                self.distrusted = self.place.feed.lost(newest);
            }
            if !page.more && !is_behind {
                self.reading = None;
            }
            if !page.events.is_empty() {
                return News::Steps(page.events);
            }
            if is_behind {
                sleep(PAUSE).await;
            }
        }
    }

    /// The steps behind the place, when it is the peer's turn. Called because of what there is up to `upto`.
    async fn read(&self, upto: HistoryOffset) -> Result<Reading, store::Error> {
        let turn = self.place.peer.turn(Turn::Steps).await;
        let (store, whose, after) = (Arc::clone(&self.store), self.place.whose, self.after);
        // A task of its own: a client who goes away ends nothing in the store, so the turn goes on until it is done.
        let read = tokio::spawn(async move {
            let _turn = turn;
            let mut page = store.history_page(whose, after, PAGE).await?;
            cut(&mut page);
            // Asked for last: steps that were dropped in between would else be missed without a word.
            let begin = match page.events.is_empty() {
                true => going_on(&*store, after).await?,
                false => after.max(store.history_dropped().await?),
            };
            let newest = match !page.more && page.upto < upto {
                true => Some(store.history_newest().await?),
                false => None,
            };
            Ok(Reading { begin, page, newest })
        });
        read.await.unwrap_or_else(|failed| Err(store::Error::Unavailable(failed.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Cause, OrderId, Status, UserId};

    /// The steps that are left of some with reasons of these lengths, and whether the page says so.
    fn left(reasons: &[usize]) -> (usize, bool) {
        let step = |(place, length): (u64, &usize)| HistoryEvent {
            offset: HistoryOffset(place, 0),
            order_id: OrderId::generate(),
            user_id: UserId::from_bytes([1; 16]),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            cause: Cause::Worker,
            status: Status::Failed,
            amount: None,
            reason: Some("r".repeat(*length)),
        };
        let events: Vec<HistoryEvent> = (1..).zip(reasons).map(step).collect();
        let mut page = HistoryPage { events, upto: HistoryOffset(1000, 0), more: false };
        cut(&mut page);
        let count = page.events.len();
        // It goes on behind the last one that is left.
        let upto = if count < reasons.len() { count as u64 } else { 1000 };
        assert_eq!(page.upto, HistoryOffset(upto, 0));
        (count, page.more)
    }

    #[test]
    fn a_page_is_as_long_as_its_bytes_allow() {
        assert_eq!(left(&[]), (0, false));
        assert_eq!(left(&[0; PAGE]), (PAGE, false));
        assert_eq!(left(&[1000; PAGE]), (5, true));
        assert_eq!(left(&[10_000, 0]), (1, true));
        assert_eq!(left(&[10_000]), (1, false));
    }
}
