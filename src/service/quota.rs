//! Quotas: what all callers may hold together, and what one peer may hold of it. A [`Permit`] is held for as long as
//! the thing that it stands for exists: bytes in memory, a connection, a call, a stream. A peer that comes back while
//! anything of it is still held is the same peer, so a new connection gives no new share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::RETRY_AFTER;
use super::turns::{Taken, Turn, Turns};
use crate::error::Error;

/// What there is a limited amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Connections to the HTTP port.
    HttpConnections,
    /// Connections to the gRPC port.
    GrpcConnections,
    /// Calls of gRPC under way, over all connections.
    Calls,
    /// Long calls of gRPC that answer no order: health watches and reflection.
    Watches,
    /// Streams of order changes.
    Streams,
    /// Calls of gRPC that ask how the service is.
    Checks,
    /// All calls of gRPC that are there, those that are refused as well.
    OpenCalls,
    /// Commands that are queued to be committed, or wait for an order or a key that is busy.
    Commands,
}

const RESOURCES: usize = 9;

/// How much there is of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// For all peers together.
    pub total: usize,
    /// For one peer.
    pub per_peer: usize,
}

impl Limit {
    /// A limit of which one peer may hold a share, in percent, and `floor` units at least: a share of little would keep a
    /// single caller from what it may do.
    #[must_use]
    pub fn shared(total: usize, percent: u8, floor: usize) -> Limit {
        let share = (total as u128 * u128::from(percent.min(100)) / 100) as usize;
        Limit { total, per_peer: share.max(floor).min(total) }
    }
}

/// All resources, and the peers that hold something of them.
#[derive(Debug)]
pub struct Quotas {
    limits: [Limit; RESOURCES],
    used: [AtomicUsize; RESOURCES],
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

    /// The peer of that address. An IPv6 address counts with its whole /64, which is what one subscriber has. One that
    /// speaks for others, as a proxy does, has no share and counts for the total alone; its network does not count with
    /// it.
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

    fn forget(&self, key: (IpAddr, bool)) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // It may belong to a new peer already.
        if peers.get(&key).is_some_and(|peer| peer.strong_count() == 0) {
            peers.remove(&key);
        }
    }
}

/// One who holds something: a client, or all clients behind one address.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    speaks_for_others: bool,
    used: [AtomicUsize; RESOURCES],
    turns: Turns,
    quotas: Arc<Quotas>,
}

impl Peer {
    /// Whether others stand behind it.
    #[must_use]
    pub fn speaks_for_others(&self) -> bool {
        self.speaks_for_others
    }

    /// The quotas that the peer takes from.
    #[must_use]
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Waits for a turn: first for one of the peer's own, so that no peer stands in the way of another.
    pub async fn turn(self: &Arc<Peer>, turn: Turn) -> Taken {
        let (own, common) = (self.turns.next(turn).await, self.quotas.turns.next(turn).await);
        Taken::new([own, common], Arc::clone(self))
    }

    /// Takes units of a resource until the permit is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where all peers together, or this one, would hold more than the limit.
    pub fn take(self: &Arc<Peer>, resource: Resource, units: usize) -> Result<Permit, Error> {
        let mut permit = Permit { peer: Arc::clone(self), resource, units: 0 };
        permit.grow(units)?;
        Ok(permit)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.quotas.forget((self.address, self.speaks_for_others));
    }
}

/// Units of a resource that a peer holds.
#[derive(Debug)]
pub struct Permit {
    peer: Arc<Peer>,
    resource: Resource,
    units: usize,
}

impl Permit {
    /// How many units it stands for.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// The peer that holds it.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Takes more units.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where there are not enough; the permit stays as it is.
    pub fn grow(&mut self, units: usize) -> Result<(), Error> {
        let (at, limit) = (self.resource as usize, self.peer.quotas.limit(self.resource));
        let share = if self.peer.speaks_for_others { usize::MAX } else { limit.per_peer };
        add(&self.peer.used[at], units, share)?;
        if let Err(error) = add(&self.peer.quotas.used[at], units, limit.total) {
            self.peer.used[at].fetch_sub(units, Ordering::Relaxed);
            return Err(error);
        }
        self.units += units;
        Ok(())
    }

    /// Gives units back, so that no more than these are left.
    pub fn shrink_to(&mut self, units: usize) {
        let back = self.units.saturating_sub(units);
        if back == 0 {
            return;
        }
        let at = self.resource as usize;
        self.peer.used[at].fetch_sub(back, Ordering::Relaxed);
        self.peer.quotas.used[at].fetch_sub(back, Ordering::Relaxed);
        self.units -= back;
    }

    /// Takes over the units of another permit of the same peer and resource.
    pub fn merge(&mut self, mut other: Permit) {
        debug_assert!(Arc::ptr_eq(&self.peer, &other.peer) && self.resource == other.resource);
        self.units += std::mem::take(&mut other.units);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// What one command holds: a permit of its own, or one that it shares with other tries of the same request.
#[derive(Debug, Default)]
pub enum HeldMemory {
    /// Nothing that is counted.
    #[default]
    Nothing,
    /// A permit of its own.
    Own(Permit),
    /// One that others hold, too.
    Shared(Arc<Permit>),
}

impl HeldMemory {
    /// The peer that holds it; `None` where nothing is counted.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            HeldMemory::Nothing => None,
            HeldMemory::Own(permit) => Some(permit.peer()),
            HeldMemory::Shared(permit) => Some(permit.peer()),
        }
    }
}

impl From<Permit> for HeldMemory {
    fn from(permit: Permit) -> HeldMemory {
        HeldMemory::Own(permit)
    }
}

impl From<Option<&Arc<Permit>>> for HeldMemory {
    fn from(permit: Option<&Arc<Permit>>) -> HeldMemory {
        permit.map_or(HeldMemory::Nothing, |permit| HeldMemory::Shared(Arc::clone(permit)))
    }
}

/// Adds to a count unless it would exceed the limit. Added first and looked at then: two that meet at the limit may both
/// be refused, and never both be let in.
fn add(used: &AtomicUsize, units: usize, limit: usize) -> Result<(), Error> {
    let before = used.fetch_add(units, Ordering::Relaxed);
    if before.saturating_add(units) <= limit {
        return Ok(());
    }
    used.fetch_sub(units, Ordering::Relaxed);
    Err(Error::Overloaded { retry_after: RETRY_AFTER })
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Ten units of each resource, six for one peer.
    fn quotas() -> Arc<Quotas> {
        Quotas::new(|_| Limit { total: 10, per_peer: 6 })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_peer_holds_its_share_and_all_peers_the_total() {
        let quotas = quotas();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| quotas.peer(address(text), false));
        let mut first = one.take(Resource::Memory, 4).unwrap();
        assert!(one.take(Resource::Memory, 3).is_err());
        assert!(first.grow(3).is_err());
        assert!(first.grow(2).is_ok());
        assert_eq!((first.units(), quotas.used(Resource::Memory)), (6, 6));
        assert!(other.take(Resource::Memory, 5).is_err(), "the total counts, too");
        let second = other.take(Resource::Memory, 4).unwrap();
        assert!(one.take(Resource::Calls, 6).is_ok(), "another resource is another limit");
        drop(second);
        first.shrink_to(1);
        assert_eq!(quotas.used(Resource::Memory), 1);
        drop(first);
        assert_eq!(quotas.used(Resource::Memory), 0);
    }

    #[test]
    fn permits_are_merged_without_a_unit_gained_or_lost() {
        let quotas = quotas();
        let peer = quotas.peer(address("10.0.0.1"), false);
        let [mut whole, part] = [2, 4].map(|units| peer.take(Resource::Memory, units).unwrap());
        whole.merge(part);
        assert_eq!((whole.units(), quotas.used(Resource::Memory)), (6, 6));
        drop(whole);
        assert_eq!(quotas.used(Resource::Memory), 0);
    }

    #[test]
    fn a_turn_counts_until_it_ends_also_where_its_peer_is_gone_and_comes_back() {
        let quotas = quotas();
        let turn = |peer: Arc<Peer>| async move { peer.turn(Turn::Page).now_or_never() };
        let peer = || quotas.peer(address("10.0.0.1"), false);
        let taken: Vec<_> = (0..2).map(|_| turn(peer()).now_or_never().unwrap().expect("a turn")).collect();
        assert!(turn(peer()).now_or_never().unwrap().is_none());
        drop(taken);
        assert!(turn(peer()).now_or_never().unwrap().is_some());
    }

    #[test]
    fn a_proxy_and_its_neighbours_of_one_network_are_peers_of_their_own() {
        let quotas = quotas();
        let proxy = || quotas.peer(address("2001:db8::10"), true);
        let neighbour = || quotas.peer(address("2001:db8::66"), false);
        let held = (proxy(), neighbour());
        assert!(held.0.speaks_for_others() && !held.1.speaks_for_others());
        drop(held);
        let held = (neighbour(), proxy());
        assert!(held.1.speaks_for_others() && !held.0.speaks_for_others());
        assert!(Arc::ptr_eq(&held.0, &quotas.peer(address("2001:db8::67"), false)));
    }

    #[test]
    fn a_peer_that_comes_back_has_what_it_still_holds() {
        let quotas = quotas();
        let held = quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 6).unwrap();
        assert!(quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 1).is_err());
        drop(held);
        assert!(quotas.peers.lock().unwrap().is_empty(), "a peer that holds nothing is forgotten");
        assert!(quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 6).is_ok());
    }

    #[test]
    fn an_ipv6_peer_is_its_whole_network_and_a_mapped_address_is_the_ipv4_one() {
        let quotas = quotas();
        let same = |one: &str, other: &str| {
            Arc::ptr_eq(&quotas.peer(address(one), false), &quotas.peer(address(other), false))
        };
        let held = ["2001:db8::1", "10.0.0.1"].map(|text| quotas.peer(address(text), false));
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        drop(held);
    }

    #[test]
    fn a_share_is_at_least_its_floor_and_at_most_all() {
        assert_eq!(Limit::shared(1000, 50, 16).per_peer, 500);
        assert_eq!(Limit::shared(20, 50, 16).per_peer, 16);
        assert_eq!(Limit::shared(1, 1, 16).per_peer, 1);
        assert_eq!(Limit::shared(usize::MAX, 100, 1).per_peer, usize::MAX);
    }

    #[test]
    fn a_proxy_has_no_share_and_counts_for_the_total() {
        let quotas = quotas();
        let proxy = quotas.peer(address("10.0.0.9"), true);
        let held = proxy.take(Resource::Calls, 10).unwrap();
        assert!(proxy.take(Resource::Calls, 1).is_err());
        assert_eq!((held.units(), quotas.used(Resource::Calls)), (10, 10));
    }
}
