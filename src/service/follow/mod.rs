//! Following orders: an order's history, and the streams of the history events to come. A follower's whole state is the
//! offset up to which it has read, so a client that reconnects with that offset continues behind it, on any process. A
//! follower subscribes to the notifier before its first read of the store, so that it misses no event in between. The
//! reads with which a stream begins have the time limit of plain reads. None uses the cache: a copy may be older than
//! the history.

mod follower;
pub(super) mod notifier;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;

use self::follower::{Follower, Subject, first_offset};
use super::quota::Peer;
use super::reads::read_failed;
use super::wiring::Service;
use crate::error::Error;
use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, OrderId, Scope, UserId, Version};
use crate::store::Store;

pub use self::follower::StreamItem;

/// History events as they become visible, by ascending offset, in pages that are never empty. The stream does not end.
pub type Pages = Pin<Box<dyn Stream<Item = StreamItem> + Send>>;

/// The stream of a follower, and where it begins.
pub struct Following {
    /// The offset behind which the pages begin; `None` where the first event is known already.
    pub after: Option<HistoryOffset>,
    /// The offset behind which the follower wanted to continue, where it cannot: events behind it have been dropped,
    /// and the pages begin behind the last of those; or the history has not reached it, as after a backup was restored,
    /// and the pages begin at the history's end.
    pub lost_from: Option<HistoryOffset>,
    /// The history events.
    pub pages: Pages,
}

/// A page of an order's history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its history events, by ascending version and offset.
    pub events: Vec<HistoryEvent>,
    /// The cursor of the next page; `None` after the last one.
    pub next: Option<HistoryCursor>,
}

impl Service {
    /// The history events of an order behind a cursor, in at most `versions` versions. A page may be empty and still
    /// have a next one, where the oldest events have been dropped.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn history(
        &self,
        order_id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<History, Error> {
        let newest = self.history_of(order_id).await?;
        let read = async { self.store.history(order_id, after, versions).await.map_err(read_failed) };
        let page = self.in_time(read).await?;
        let last = after.last_of(versions);
        let next = page.next.or((last < newest).then_some(HistoryCursor::behind(last)));
        Ok(History { events: page.events, next })
    }

    /// The history events of an order behind an offset; without an offset, its newest event and those to come. Pages
    /// are read when it is the turn of that peer.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn follow(
        &self,
        order_id: OrderId,
        after: Option<HistoryOffset>,
        peer: Arc<Peer>,
    ) -> Result<Following, Error> {
        // Registered first, so that an event that is written while the newest one is read is not missed.
        let subject = Subject {
            calls: self.notifier.subscribe(Scope::Order(order_id)),
            scope: Scope::Order(order_id),
            peer,
        };
        let newest = self.history_of(order_id).await?;
        if let Some(after) = after {
            return self.pages_behind(subject, after).await;
        }
        let end = self.history_end().await?;
        let read = async { self.store.newest_history_event(order_id, newest).await.map_err(read_failed) };
        let first = self.in_time(read).await?;
        // Where the newest event was dropped, or never recorded, the stream begins at the end.
        let after = first.as_ref().map_or(end, |event| event.offset);
        Ok(self.pages(subject, after, first))
    }

    /// The history events of a user's orders behind an offset; without an offset, those to come. Pages are read when it
    /// is the turn of that peer.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::Unavailable`].
    pub async fn follow_user(
        &self,
        user_id: UserId,
        after: Option<HistoryOffset>,
        peer: Arc<Peer>,
    ) -> Result<Following, Error> {
        self.history.ok_or(Error::HistoryOff)?;
        let subject = Subject {
            calls: self.notifier.subscribe(Scope::User(user_id)),
            scope: Scope::User(user_id),
            peer,
        };
        match after {
            Some(after) => self.pages_behind(subject, after).await,
            None => {
                let end = self.history_end().await?;
                Ok(self.pages(subject, end, None))
            }
        }
    }

    /// The version of an order whose history is read. Not from the cache: a copy may be older than the history.
    async fn history_of(&self, order_id: OrderId) -> Result<Version, Error> {
        self.history.ok_or(Error::HistoryOff)?;
        let found = self.in_time(async { self.store.get(order_id).await.map_err(read_failed) }).await?;
        Ok(found.ok_or(Error::NotFound { order_id: Some(order_id) })?.version)
    }

    async fn history_end(&self) -> Result<HistoryOffset, Error> {
        self.in_time(async { self.store.history_end().await.map_err(read_failed) }).await
    }

    /// The pages of a follower that continues behind an offset.
    async fn pages_behind(&self, subject: Subject, after: HistoryOffset) -> Result<Following, Error> {
        let begin =
            self.in_time(async { first_offset(&*self.store, after).await.map_err(read_failed) }).await?;
        let following = self.pages(subject, begin, None);
        Ok(Following { lost_from: (after != begin).then_some(after), ..following })
    }

    fn pages(&self, subject: Subject, after: HistoryOffset, first: Option<HistoryEvent>) -> Following {
        let begun = first.is_none().then_some(after);
        let follower = Follower::new(Arc::<dyn Store>::clone(&self.store), subject, after, first);
        let pages = unfold(follower, |mut follower| async move { Some((follower.page().await, follower)) });
        Following { after: begun, lost_from: None, pages: Box::pin(pages) }
    }
}
