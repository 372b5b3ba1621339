//! Turns to read from the store or the cache. What a read brings is only known when it is there, so that the number of
//! reads is bounded until what they bring is counted; who finds no turn waits for one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::quota::Peer;

/// A read that may bring much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Of one order: up to some MiB.
    Order,
    /// Of a page of orders: several MiB.
    Page,
    /// Of a page of steps, for a stream: little, but a peer has many streams, and all of them may read at once.
    Steps,
    /// Of a copy in the cache: as much as of an order. A store that does not answer does not hold it up.
    Copy,
}

/// How many kinds of turns there are.
const KINDS: usize = 4;

/// How many turns there are of each kind; a peer has half of them.
const TURNS: [usize; KINDS] = [32, 4, 4, 16];

/// A turn that has been taken. Its peer is the same until it ends.
#[derive(Debug)]
pub struct Taken {
    _turns: [Option<OwnedSemaphorePermit>; 2],
    _peer: Arc<Peer>,
}

impl Taken {
    pub(super) fn new(turns: [Option<OwnedSemaphorePermit>; 2], peer: Arc<Peer>) -> Taken {
        Taken { _turns: turns, _peer: peer }
    }
}

/// The turns of each kind.
#[derive(Debug)]
pub(super) struct Turns([Arc<Semaphore>; KINDS]);

impl Turns {
    /// All turns, or one part of so many.
    pub(super) fn new(parts: usize) -> Turns {
        Turns(TURNS.map(|count| Arc::new(Semaphore::new(count / parts))))
    }

    /// Waits for a turn. They are never closed, so there always is one.
    pub(super) async fn next(&self, turn: Turn) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0[turn as usize]).acquire_owned().await.ok()
    }
}
