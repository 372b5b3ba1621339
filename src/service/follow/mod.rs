//! Following orders: what happened to an order, and the streams of what happens next. A follower is a place in the
//! history; what it has read up to is all that it is, and a client that comes back with that place goes on where it
//! ended.

mod follower;
pub(super) mod notifier;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;

use self::follower::{Follower, Place, going_on};
use super::quota::Peer;
use super::reads::read_failed;
use super::wiring::Service;
use crate::error::Error;
use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, OrderId, Scope, UserId, Version};
use crate::store::Store;

pub use self::follower::News;

/// Steps as they become visible, by ascending sequence, in pages that are never empty. It has no end.
pub type Pages = Pin<Box<dyn Stream<Item = News> + Send>>;

/// What a follower gets.
pub struct Following {
    /// Behind which place the pages begin; `None` where the first one is there already.
    pub after: Option<HistoryOffset>,
    /// The place behind which the follower wanted to go on, where steps behind it are no longer kept: the pages then
    /// begin behind the last of those. Or one that this history has not come to, as after a backup was restored: the
    /// pages then begin at the history's end.
    pub lost_from: Option<HistoryOffset>,
    /// The steps.
    pub pages: Pages,
}

/// A part of an order's history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its steps, by ascending version and sequence.
    pub events: Vec<HistoryEvent>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<HistoryCursor>,
}

impl Service {
    /// What happened to an order behind a cursor, in at most so many versions. May be empty, and still have a next
    /// part, where the oldest steps are no longer kept.
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

    /// The steps of an order behind a place; without a place, its newest one and those to come. Pages are read when it
    /// is the turn of that peer.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn follow(
        &self,
        order_id: OrderId,
        after: Option<HistoryOffset>,
        peer: Arc<Peer>,
    ) -> Result<Following, Error> {
        // Registered first: what happens while the newest step is looked up is not missed.
        let place =
            Place { feed: self.feed.subscribe(Scope::Order(order_id)), whose: Scope::Order(order_id), peer };
        let newest = self.history_of(order_id).await?;
        if let Some(after) = after {
            return self.pages_behind(place, after).await;
        }
        let end = self.history_end().await?;
        let read = async { self.store.newest_history_event(order_id, newest).await.map_err(read_failed) };
        let first = self.in_time(read).await?;
        // One that is no longer kept, or never was, leaves nothing to begin with.
        let after = first.as_ref().map_or(end, |step| step.offset);
        Ok(self.pages(place, after, first))
    }

    /// The steps of a user's orders behind a place; without a place, those to come. Pages are read when it is the turn
    /// of that peer.
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
        let place =
            Place { feed: self.feed.subscribe(Scope::User(user_id)), whose: Scope::User(user_id), peer };
        match after {
            Some(after) => self.pages_behind(place, after).await,
            None => {
                let end = self.history_end().await?;
                Ok(self.pages(place, end, None))
            }
        }
    }

    /// The version of an order whose history is asked for. Not from the cache: a copy may be older than the history.
    async fn history_of(&self, order_id: OrderId) -> Result<Version, Error> {
        self.history.ok_or(Error::HistoryOff)?;
        let found = self.in_time(async { self.store.get(order_id).await.map_err(read_failed) }).await?;
        Ok(found.ok_or(Error::NotFound { order_id: Some(order_id) })?.version)
    }

    async fn history_end(&self) -> Result<HistoryOffset, Error> {
        self.in_time(async { self.store.history_end().await.map_err(read_failed) }).await
    }

    /// The pages of a follower who comes back to where it was.
    async fn pages_behind(&self, place: Place, after: HistoryOffset) -> Result<Following, Error> {
        let begin = self.in_time(async { going_on(&*self.store, after).await.map_err(read_failed) }).await?;
        let following = self.pages(place, begin, None);
        Ok(Following { lost_from: (after != begin).then_some(after), ..following })
    }

    fn pages(&self, place: Place, after: HistoryOffset, first: Option<HistoryEvent>) -> Following {
        let begun = first.is_none().then_some(after);
        let follower = Follower::new(Arc::<dyn Store>::clone(&self.store), place, after, first);
        let pages = unfold(follower, |mut follower| async move { Some((follower.page().await, follower)) });
        Following { after: begun, lost_from: None, pages: Box::pin(pages) }
    }
}
