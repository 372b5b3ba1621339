//! All resources and the peers that hold something of them. A peer that reconnects while it still holds a permit is the
//! same peer, so a new connection does not bring a new share. The map has weak references, and a peer removes its entry
//! when its last holder drops it: the memory is bounded by the peers that hold something, not by those ever seen. The
//! map's lock must never be held across an await.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedSemaphorePermit;

use super::limits::{Limit, RESOURCES, Resource};
use super::turn::{Turn, Turns};

/// All resources, and the peers that hold something of them.
#[derive(Debug)]
pub struct Quotas {
    limits: [Limit; RESOURCES],
    pub(super) used: [AtomicUsize; RESOURCES],
    turns: Turns,
    // std Mutex: held for a map operation, never across .await
    peers: Mutex<HashMap<(IpAddr, bool), Weak<Peer>>>,
}

impl Quotas {
    /// Quotas with these limits.
    #[must_use]
    pub fn new(limit: impl Fn(Resource) -> Limit) -> Arc<Quotas> {
        use Resource::{
            Calls, Checks, Commands, GrpcConnections, HttpConnections, Memory, OpenCalls, Streams, Watches,
        };
        let limits =
            [Memory, HttpConnections, GrpcConnections, Calls, Watches, Streams, Checks, OpenCalls, Commands];
        let limits = limits.map(limit);
        Arc::new(Quotas { limits, used: Default::default(), turns: Turns::new(1), peers: Mutex::default() })
    }

    /// The peer of that address. An IPv6 address counts with its whole /64, which is what one subscriber has. An
    /// address that speaks for others, as a proxy does, does not have a share and counts for the total alone; the rest
    /// of its network is not part of it.
    pub fn peer(self: &Arc<Quotas>, address: IpAddr, speaks_for_others: bool) -> Arc<Peer> {
        let address = match speaks_for_others {
            true => address.to_canonical(),
            false => one_per_subscriber(address),
        };
        let key = (address, speaks_for_others);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peers.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let (used, quotas) = (Default::default(), Arc::clone(self));
            let turns = Turns::new(if speaks_for_others { 1 } else { 2 });
            let peer = Arc::new(Peer { address, speaks_for_others, used, turns, quotas });
            peers.insert(key, Arc::downgrade(&peer));
            peer
        })
    }

    /// How much there is of a resource.
    #[must_use]
    pub fn limit(&self, resource: Resource) -> Limit {
        self.limits[resource as usize]
    }

    /// How much of a resource all peers hold.
    #[must_use]
    pub fn used(&self, resource: Resource) -> usize {
        self.used[resource as usize].load(Ordering::Relaxed)
    }

    /// Whether all permits have been dropped.
    #[cfg(test)]
    pub(super) fn has_no_peer(&self) -> bool {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn remove(&self, key: (IpAddr, bool)) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // The key may belong to a new peer already.
        if peers.get(&key).is_some_and(|peer| peer.strong_count() == 0) {
            peers.remove(&key);
        }
    }
}

/// A holder of permits: a client, or all clients behind one address.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    speaks_for_others: bool,
    pub(super) used: [AtomicUsize; RESOURCES],
    turns: Turns,
    quotas: Arc<Quotas>,
}

impl Peer {
    /// Whether it speaks for other clients, as a proxy does.
    #[must_use]
    pub fn speaks_for_others(&self) -> bool {
        self.speaks_for_others
    }

    /// The quotas that the peer takes from.
    #[must_use]
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }
}

impl Peer {
    /// The semaphores of a read that may return much: first the peer's own, so that a peer cannot use up the turns of
    /// others.
    pub(in crate::service) async fn permits_for(&self, turn: Turn) -> [Option<OwnedSemaphorePermit>; 2] {
        [self.turns.next(turn).await, self.quotas.turns.next(turn).await]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.quotas.remove((self.address, self.speaks_for_others));
    }
}

/// The address that stands for a peer.
fn one_per_subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}
