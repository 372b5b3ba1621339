//! Turns to read from the store or the cache. What a read brings is only known when it is there, so that the number of
//! reads is bounded until what they bring is counted; a reader that finds no turn waits for one.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::quota::Peer;

pub use super::quota::Turn;

/// A turn that has been taken. Its peer is the same until it ends.
#[derive(Debug)]
pub struct Taken {
    _turns: [Option<OwnedSemaphorePermit>; 2],
    _peer: Arc<Peer>,
}

impl Peer {
    /// Waits for a turn: first for one of the peer's own, so that no peer stands in the way of another.
    pub async fn turn(self: &Arc<Peer>, turn: Turn) -> Taken {
        Taken { _turns: self.permits_for(turn).await, _peer: Arc::clone(self) }
    }
}
