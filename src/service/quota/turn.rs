//! The kinds of reads that may return much, and how many of each may run at a time. The numbers bound the memory of
//! results that are not counted yet: few turns for pages of several MiB, more for single orders. Each kind has turns of
//! its own, so that reads of cached copies continue while the store does not answer. The semaphores are never closed,
//! so a wait ends only with a turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A read that may return much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Of one order: up to some MiB.
    Order,
    /// Of a page of orders: several MiB.
    Page,
    /// Of a page of history events, for a stream: little, but a peer has many streams, and all of them may read at
    /// once.
    HistoryEvents,
    /// Of a copy in the cache: as much as of an order. A store that does not answer does not delay it.
    Copy,
}

/// How many kinds of turns there are.
const KINDS: usize = 4;

/// How many turns there are of each kind; a peer has half of them.
const TURNS: [usize; KINDS] = [32, 4, 4, 16];

/// The turns of each kind.
#[derive(Debug)]
pub(super) struct Turns([Arc<Semaphore>; KINDS]);

impl Turns {
    /// All turns, or one of `parts` equal shares of them.
    pub(super) fn new(parts: usize) -> Turns {
        Turns(TURNS.map(|count| Arc::new(Semaphore::new(count / parts))))
    }

    /// Waits for a turn. The semaphores are never closed, so the answer is never `None`.
    pub(super) async fn next(&self, turn: Turn) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0[turn as usize]).acquire_owned().await.ok()
    }
}
