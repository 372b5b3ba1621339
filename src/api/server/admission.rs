//! The admission of connections. A port has a limit on connections, and a peer a share of it. At the limit, the
//! connection that has been idle for longest is closed, so that idle sockets keep no client out. A connection with a
//! request in flight is never closed for another.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clock::Clock;
use super::connection::Connection;
use super::forwarded::TrustedProxies;
use crate::service::quota::{Peer, Quotas, Resource};

/// How long a connection must have been idle before it is closed for one of another peer: a new or a just answered
/// connection is about to be used. For one of its own peer any idle connection is closed.
const GRACE: Duration = Duration::from_millis(250);

/// How many evicted connections may still be open before the next one is accepted: each holds a descriptor.
const MOST_LEAVING: usize = 32;

/// The pause before the next check whether they have closed.
const LEAVING_PAUSE: Duration = Duration::from_millis(1);

/// The pause between two checks for room.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How many connections are searched for the one to close.
const SEARCHED: usize = 512;

/// The connection slots of a port.
pub(in crate::api) struct Admission {
    resource: Resource,
    quotas: Arc<Quotas>,
    proxies: Arc<TrustedProxies>,
    clock: Arc<Clock>,
    leaving: Arc<AtomicUsize>,
    // std Mutex: held to add one or search some, never across .await
    live: Mutex<Live>,
}

/// The open connections, and some that have closed.
#[derive(Default)]
struct Live {
    connections: Vec<Weak<Connection>>,
    /// The index where the next search begins.
    next: usize,
}

impl Admission {
    /// Slots that are counted as that resource.
    pub(in crate::api) fn new(
        resource: Resource,
        quotas: Arc<Quotas>,
        proxies: Arc<TrustedProxies>,
        clock: Arc<Clock>,
    ) -> Admission {
        Admission { resource, quotas, proxies, clock, leaving: Arc::default(), live: Mutex::default() }
    }

    /// Waits until the port has room and descriptors for one more connection.
    pub(in crate::api) async fn room(&self) {
        while self.leaving.load(Ordering::Acquire) >= MOST_LEAVING {
            sleep(LEAVING_PAUSE).await;
        }
        while self.quotas.used(self.resource) >= self.quotas.limit(self.resource).total {
            match self.longest_idle(None) {
                Some(idle) => idle.make_room(),
                None => sleep(ROOM_PAUSE).await,
            }
        }
    }

    /// Frees a descriptor by closing an idle connection, if there is one.
    pub(in crate::api) fn make_room(&self) {
        if let Some(idle) = self.longest_idle(None) {
            idle.make_room();
        }
    }

    /// Admits a connection from that address; `None` where the share of its peer is used up and none of it idle.
    pub(in crate::api) fn admit(&self, address: IpAddr) -> Option<Arc<Connection>> {
        let peer = self.quotas.peer(address, self.proxies.contains(address));
        let slot = peer.take(self.resource, 1).or_else(|full| {
            let idle = self.longest_idle(Some(&peer)).ok_or(full)?;
            idle.make_room();
            peer.take(self.resource, 1)
        });
        let connection = Arc::new(Connection::new(slot.ok()?, &self.clock, &self.leaving));
        let mut live = self.live();
        if live.connections.len() > SEARCHED + 2 * self.quotas.used(self.resource) {
            live.connections.retain(|connection| connection.strong_count() > 0);
        }
        live.connections.push(Arc::downgrade(&connection));
        Some(connection)
    }

    /// Calls `act` with every open connection.
    pub(in crate::api) fn each(&self, act: impl Fn(&Connection)) {
        let live: Vec<_> = self.live().connections.iter().filter_map(Weak::upgrade).collect();
        live.iter().for_each(|connection| act(connection));
    }

    /// The connection that has been idle for longest, among some connections of that peer or of any.
    fn longest_idle(&self, of: Option<&Arc<Peer>>) -> Option<Arc<Connection>> {
        let mut live = self.live();
        let count = live.connections.len();
        let begin = live.next;
        live.next = (begin + SEARCHED) % count.max(1);
        let latest = Instant::now().checked_sub(GRACE)?;
        (0..count.min(SEARCHED))
            .filter_map(|step| live.connections.get((begin + step) % count)?.upgrade())
            .filter(|connection| of.is_none_or(|peer| Arc::ptr_eq(peer, connection.peer())))
            .filter_map(|connection| Some((connection.spare_since()?, connection)))
            .filter(|(since, _)| of.is_some() || *since <= latest)
            .min_by_key(|(since, _)| *since)
            .map(|(_, connection)| connection)
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
