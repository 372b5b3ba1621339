//! Following orders: a follower is a place in the history and reads its steps from the store page by page, when the
//! feed calls it. It holds one page at a time and waits for nobody, so that a slow one takes nothing from the others.
//! What it has read up to is all that it is: whoever comes back with that place goes on where it ended.

pub(super) mod feed;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::sleep;

use self::feed::{PAUSE, Subscription};
use super::quota::Peer;
use super::reads::read_failed;
use super::turns::Turn;
use super::wiring::Service;
use crate::error::Error;
use crate::order::{HistoryCursor, OrderId, Sequence, Step, Stretch, UserId, Version, Whose};
use crate::store;

/// The most steps in a page.
const PAGE: usize = 100;

/// How many bytes the steps of a page take, at most, unless the first one alone takes more: a stream holds a page for as
/// long as its client reads nothing.
const PAGE_BYTES: usize = 32 << 10;

/// How many bytes a step takes as text, besides its amount and its reason.
const STEP_BYTES: usize = 300;

/// Steps as they become visible, by ascending sequence, in pages that are never empty. It has no end.
pub type Pages = Pin<Box<dyn Stream<Item = News> + Send>>;

/// What a follower gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Steps, at least one.
    Steps(Vec<Step>),
    /// Steps behind the first place, up to the second, were dropped before the follower came to them: it was slow for as
    /// long as steps are kept. Or the history ends at the second place, before the first: a backup was restored.
    Lost {
        /// Where the follower stood.
        after: Sequence,
        /// Where it goes on.
        upto: Sequence,
    },
}

/// What a follower gets.
pub struct Following {
    /// Behind which place the pages begin; `None` where the first one is there already.
    pub after: Option<Sequence>,
    /// The place behind which the follower wanted to go on, where steps behind it are no longer kept: the pages then
    /// begin behind the last of those. Or one that this history has not come to, as after a backup was restored: the
    /// pages then begin at the history's end.
    pub lost_from: Option<Sequence>,
    /// The steps.
    pub pages: Pages,
}

/// A part of an order's history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its steps, by ascending version and sequence.
    pub steps: Vec<Step>,
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
        let part = self.in_time(read).await?;
        let last = after.last_of(versions);
        let next = part.next.or((last < newest).then_some(HistoryCursor::behind(last)));
        Ok(History { steps: part.steps, next })
    }

    /// The steps of an order behind a place; without a place, its newest one and those to come. Pages are read when it
    /// is the turn of that peer.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn follow(
        &self,
        order_id: OrderId,
        after: Option<Sequence>,
        peer: Arc<Peer>,
    ) -> Result<Following, Error> {
        // Registered first: what happens while the newest step is looked up is not missed.
        let place =
            Place { feed: self.feed.subscribe(Whose::Order(order_id)), whose: Whose::Order(order_id), peer };
        let newest = self.history_of(order_id).await?;
        if let Some(after) = after {
            return self.pages_behind(place, after).await;
        }
        let end = self.history_end().await?;
        let read = async { self.store.newest_step(order_id, newest).await.map_err(read_failed) };
        let first = self.in_time(read).await?;
        // One that is no longer kept, or never was, leaves nothing to begin with.
        let after = first.as_ref().map_or(end, |step| step.sequence);
        Ok(self.pages(place, after, first))
    }

    /// The steps of a user's orders behind a place; without a place, those to come. Pages are read when it is the turn of
    /// that peer.
    ///
    /// # Errors
    /// [`Error::HistoryOff`], [`Error::Unavailable`].
    pub async fn follow_user(
        &self,
        user_id: UserId,
        after: Option<Sequence>,
        peer: Arc<Peer>,
    ) -> Result<Following, Error> {
        self.history.ok_or(Error::HistoryOff)?;
        let place =
            Place { feed: self.feed.subscribe(Whose::User(user_id)), whose: Whose::User(user_id), peer };
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

    async fn history_end(&self) -> Result<Sequence, Error> {
        self.in_time(async { self.store.history_end().await.map_err(read_failed) }).await
    }

    /// The pages of a follower who comes back to where it was.
    async fn pages_behind(&self, place: Place, after: Sequence) -> Result<Following, Error> {
        let begin = self.in_time(async { going_on(&*self.store, after).await.map_err(read_failed) }).await?;
        let following = self.pages(place, begin, None);
        Ok(Following { lost_from: (after != begin).then_some(after), ..following })
    }

    fn pages(&self, place: Place, after: Sequence, first: Option<Step>) -> Following {
        let begun = first.is_none().then_some(after);
        let follower = Follower {
            store: Arc::<dyn store::Store>::clone(&self.store),
            place,
            after,
            first,
            reading: None,
            distrusted: 0,
        };
        let pages = unfold(follower, |mut follower| async move { Some((follower.page().await, follower)) });
        Following { after: begun, lost_from: None, pages: Box::pin(pages) }
    }
}

/// Where a follower goes on who has come to that place. There, unless steps behind it have been dropped, or it is a place
/// of another history, or of this one before a backup was restored.
async fn going_on(store: &dyn store::History, after: Sequence) -> Result<Sequence, store::Error> {
    let dropped = store.history_dropped().await?;
    match after {
        _ if after < dropped => Ok(dropped),
        _ if after > store.history_newest().await? => Ok(store.history_end().await?.max(dropped)),
        _ => Ok(after),
    }
}

/// Leaves the steps of a stretch that are too much for a page to the next one.
fn cut(stretch: &mut Stretch) {
    let mut bytes = 0;
    let fits = |step: &&Step| {
        let amount = step.amount.as_ref().map_or(0, |amount| amount.to_string().len());
        // A byte of a reason is six as JSON, at most.
        bytes += STEP_BYTES + amount + 6 * step.reason.as_ref().map_or(0, String::len);
        bytes <= PAGE_BYTES
    };
    let count = stretch.steps.iter().take_while(fits).count().max(1);
    if count < stretch.steps.len() {
        stretch.steps.truncate(count);
        stretch.upto = stretch.steps.last().map_or(stretch.upto, |step| step.sequence);
        stretch.more = true;
    }
}

/// What a follower is called for, and whose turn it is when it reads.
struct Place {
    feed: Subscription,
    whose: Whose,
    peer: Arc<Peer>,
}

/// One who follows orders.
struct Follower {
    store: Arc<dyn store::History>,
    place: Place,
    /// All up to here has been read.
    after: Sequence,
    /// Known before anything was read.
    first: Option<Step>,
    /// Up to where there may be something to read; `None`: not called.
    reading: Option<Sequence>,
    /// A hub that has begun no more often than this may name places that are lost. None is distrusted at first.
    distrusted: u64,
}

/// What a follower has read.
struct Reading {
    /// The place where it goes on.
    begin: Sequence,
    stretch: Stretch,
    /// Where the store has less than the hub has seen: a place that no step of the store is behind yet. The hub may have
    /// asked another server of the store, such as the one before a standby took over.
    newest: Option<Sequence>,
}

impl Follower {
    /// The next page, as soon as there is one.
    async fn page(&mut self) -> News {
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
            let Ok(Reading { begin, stretch, newest }) = read else {
                sleep(PAUSE).await;
                continue;
            };
            if begin != self.after {
                if begin < self.after {
                    // The history has lost its end. It goes on there, and not where the hub has come to.
                    self.reading = Some(Sequence::default());
                    self.distrusted = self.place.feed.lost(begin);
                }
                return News::Lost { after: std::mem::replace(&mut self.after, begin), upto: begin };
            }
            self.after = self.after.max(stretch.upto);
            let is_behind = newest.is_some_and(|newest| upto <= newest);
            if let Some(newest) = newest.filter(|_| !is_behind) {
                // The store will never have what the hub has seen.
                self.distrusted = self.place.feed.lost(newest);
            }
            if !stretch.more && !is_behind {
                self.reading = None;
            }
            if !stretch.steps.is_empty() {
                return News::Steps(stretch.steps);
            }
            if is_behind {
                sleep(PAUSE).await;
            }
        }
    }

    /// The steps behind the place, when it is the peer's turn. Called because of what there is up to `upto`.
    async fn read(&self, upto: Sequence) -> Result<Reading, store::Error> {
        let turn = self.place.peer.turn(Turn::Steps).await;
        let (store, whose, after) = (Arc::clone(&self.store), self.place.whose, self.after);
        // A task of its own: a client who goes away ends nothing in the store, so the turn goes on until it is done.
        let read = tokio::spawn(async move {
            let _turn = turn;
            let mut stretch = store.steps(whose, after, PAGE).await?;
            cut(&mut stretch);
            // Asked for last: steps that were dropped in between would else be missed without a word.
            let begin = match stretch.steps.is_empty() {
                true => going_on(&*store, after).await?,
                false => after.max(store.history_dropped().await?),
            };
            let newest = match !stretch.more && stretch.upto < upto {
                true => Some(store.history_newest().await?),
                false => None,
            };
            Ok(Reading { begin, stretch, newest })
        });
        read.await.unwrap_or_else(|failed| Err(store::Error::Unavailable(failed.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Cause, Status};

    /// The steps that are left of some with reasons of these lengths, and whether the page says so.
    fn left(reasons: &[usize]) -> (usize, bool) {
        let step = |(place, length): (u64, &usize)| Step {
            sequence: Sequence(place, 0),
            order_id: OrderId::generate(),
            user_id: UserId::from_bytes([1; 16]),
            version: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            cause: Cause::Worker,
            status: Status::Failed,
            amount: None,
            reason: Some("r".repeat(*length)),
        };
        let steps: Vec<Step> = (1..).zip(reasons).map(step).collect();
        let mut stretch = Stretch { steps, upto: Sequence(1000, 0), more: false };
        cut(&mut stretch);
        let count = stretch.steps.len();
        // It goes on behind the last one that is left.
        let upto = if count < reasons.len() { count as u64 } else { 1000 };
        assert_eq!(stretch.upto, Sequence(upto, 0));
        (count, stretch.more)
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
