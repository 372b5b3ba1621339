//! A follower: an offset in the history, from which it reads events from the store page by page, when the notifier
//! calls it. It holds one page at a time and does not wait for other followers, so that a slow one does not delay them.
//! It must never skip an event without reporting [`StreamItem::Lost`].

use std::sync::Arc;

use tokio::time::sleep;

use super::notifier::{PAUSE, Subscription};
use crate::order::{HistoryEvent, HistoryOffset, HistoryPage, Scope};
use crate::service::quota::Peer;
use crate::service::turns::Turn;
use crate::store::{self, History};

/// The most history events in a page.
const PAGE: usize = 100;

/// The most bytes that the events of a page take, unless the first one alone takes more: a stream holds a page while
/// its client does not read.
const PAGE_BYTES: usize = 32 << 10;

/// How many bytes a history event takes as text, besides its amount and its reason.
const EVENT_BYTES: usize = 300;

/// The next item of a follower's stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamItem {
    /// History events, at least one.
    Events(Vec<HistoryEvent>),
    /// Events behind `after`, up to `upto`, were dropped before the follower read them: it was slower than the
    /// retention of the history. Or the history ends at `upto`, before `after`: a backup was restored.
    Lost {
        /// The offset of the follower.
        after: HistoryOffset,
        /// The offset behind which it continues.
        upto: HistoryOffset,
    },
}

/// The offset behind which a follower at `after` continues: `after` itself, unless events behind it have been dropped,
/// or it is an offset of another history, or of this one before a backup was restored.
pub(super) async fn first_offset(
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

/// Shortens a page to [`PAGE_BYTES`]; the next page has the other events.
fn cut(page: &mut HistoryPage) {
    let mut bytes = 0;
    let fits = |event: &&HistoryEvent| {
        let amount = event.amount.as_ref().map_or(0, |amount| amount.to_string().len());
        // A byte of a reason is six as JSON, at most.
        bytes += EVENT_BYTES + amount + 6 * event.reason.as_ref().map_or(0, String::len);
        bytes <= PAGE_BYTES
    };
    let count = page.events.iter().take_while(fits).count().max(1);
    if count < page.events.len() {
        page.events.truncate(count);
        page.upto = page.events.last().map_or(page.upto, |event| event.offset);
        page.more = true;
    }
}

/// What a follower reads, the calls to read on, and the peer whose turns it takes.
pub(super) struct Subject {
    pub(super) calls: Subscription,
    pub(super) scope: Scope,
    pub(super) peer: Arc<Peer>,
}

/// A reader of the history events of an order or a user.
pub(super) struct Follower {
    store: Arc<dyn History>,
    subject: Subject,
    /// All events up to this offset have been read.
    after: HistoryOffset,
    /// An event that was known before the first read.
    first: Option<HistoryEvent>,
    /// The offset up to which there may be events to read; `None`: there was not a call.
    reading: Option<HistoryOffset>,
    /// Calls of a notifier that has started at most this many times may carry lost offsets. 0 distrusts none.
    distrusted: u64,
}

/// What a follower has read.
struct Reading {
    /// The offset behind which the follower continues.
    begin: HistoryOffset,
    page: HistoryPage,
    /// Where the store has less than the notifier has seen: the store's newest offset. The notifier may have asked
    /// another server of the store, such as the primary before a standby replaced it.
    newest: Option<HistoryOffset>,
}

impl Follower {
    /// A follower that has read all events up to `after`, and that begins with `first` where there is one.
    pub(super) fn new(
        store: Arc<dyn History>,
        subject: Subject,
        after: HistoryOffset,
        first: Option<HistoryEvent>,
    ) -> Follower {
        Follower { store, subject, after, first, reading: None, distrusted: 0 }
    }

    /// The next page, as soon as there is one.
    pub(super) async fn page(&mut self) -> StreamItem {
        if let Some(event) = self.first.take() {
            return StreamItem::Events(vec![event]);
        }
        loop {
            let upto = match self.reading {
                Some(upto) => upto,
                None => {
                    let call = self.subject.calls.called().await;
                    let is_trusted = call.begun > self.distrusted;
                    self.after = if is_trusted { self.after.max(call.from) } else { self.after };
                    *self.reading.insert(call.upto.filter(|_| is_trusted).unwrap_or_default())
                }
            };
            let read = self.read(upto).await;
            self.subject.calls.log(read.as_ref().err());
            let Ok(Reading { begin, page, newest }) = read else {
                sleep(PAUSE).await;
                continue;
            };
            if begin != self.after {
                if begin < self.after {
                    // The history has lost its end. The follower continues there, and not at the notifier's offset.
                    self.reading = Some(HistoryOffset::default());
                    self.distrusted = self.subject.calls.lost(begin);
                }
                return StreamItem::Lost { after: std::mem::replace(&mut self.after, begin), upto: begin };
            }
            self.after = self.after.max(page.upto);
            let is_behind = newest.is_some_and(|newest| upto <= newest);
            if let Some(newest) = newest.filter(|_| !is_behind) {
                // The store will never have the events that the notifier has seen.
                self.distrusted = self.subject.calls.lost(newest);
            }
            if !page.more && !is_behind {
                self.reading = None;
            }
            if !page.events.is_empty() {
                return StreamItem::Events(page.events);
            }
            if is_behind {
                sleep(PAUSE).await;
            }
        }
    }

    /// The next page, read when it is the peer's turn. `upto` is the offset of the call.
    async fn read(&self, upto: HistoryOffset) -> Result<Reading, store::Error> {
        let turn = self.subject.peer.turn(Turn::HistoryEvents).await;
        let (store, scope, after) = (Arc::clone(&self.store), self.subject.scope, self.after);
        // A task of its own: the read continues when its client leaves, so the turn is held until the read ends.
        let read = tokio::spawn(async move {
            let _turn = turn;
            let mut page = store.history_page(scope, after, PAGE).await?;
            cut(&mut page);
            // Read last: else events that were dropped in between would be missed without a report.
            let begin = match page.events.is_empty() {
                true => first_offset(&*store, after).await?,
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

    /// How many events with reasons of these lengths are left in a page, and whether the page has more.
    fn left(reasons: &[usize]) -> (usize, bool) {
        let event = |(offset, length): (u64, &usize)| HistoryEvent {
            offset: HistoryOffset(offset, 0),
            order_id: OrderId::generate(),
            user_id: UserId::from_bytes([1; 16]),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            cause: Cause::Worker,
            status: Status::Failed,
            amount: None,
            reason: Some("r".repeat(*length)),
        };
        let events: Vec<HistoryEvent> = (1..).zip(reasons).map(event).collect();
        let mut page = HistoryPage { events, upto: HistoryOffset(1000, 0), more: false };
        cut(&mut page);
        let count = page.events.len();
        // The next page begins behind the last event that is left.
        let upto = if count < reasons.len() { count as u64 } else { 1000 };
        assert_eq!(page.upto, HistoryOffset(upto, 0));
        (count, page.more)
    }

    #[test]
    fn a_page_has_as_many_events_as_its_bytes_allow() {
        assert_eq!(left(&[]), (0, false));
        assert_eq!(left(&[0; PAGE]), (PAGE, false));
        assert_eq!(left(&[1000; PAGE]), (5, true));
        assert_eq!(left(&[10_000, 0]), (1, true));
        assert_eq!(left(&[10_000]), (1, false));
    }
}
