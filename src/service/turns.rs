//! Turns to read from the store or the cache. The size of a result is known only when it is there. So the number of
//! reads is bounded until the memory of their results is counted; a reader waits where no turn is free. It takes a turn
//! of its peer first and one of all peers then: in the other order a peer would hold turns of others while it waits for
//! its own. Dropping what was taken ends both.

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
    /// Waits for a turn: first for one of the peer's own, so that a peer cannot use up the turns of others.
    pub async fn turn(self: &Arc<Peer>, turn: Turn) -> Taken {
        Taken { _turns: self.permits_for(turn).await, _peer: Arc::clone(self) }
    }
}
