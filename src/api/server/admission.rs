//! Which connections are admitted. A port has a limit on connections, and a peer a share of it. Where all places are
//! taken, the connection that has been idle for longest is closed: idle sockets keep no client out. A connection with a
//! request under way is never closed for another.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clock::Clock;
use super::connection::Connection;
use super::forwarded::TrustedProxies;
use crate::service::quota::{Peer, Quotas, Resource};

/// How long a connection must have been idle before it has to make room for one of another peer: one that has just been
/// opened, or answered, is about to be used. For one of its own peer any idle connection makes room.
const GRACE: Duration = Duration::from_millis(250);

/// How many connections that made room may still be open before the next one is taken: each holds a descriptor.
const MOST_LEAVING: usize = 32;

/// How long they get to end until the next look.
const SHORT: Duration = Duration::from_millis(1);

/// How often is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many connections are looked at to find the one that makes room.
const LOOKED_AT: usize = 512;

/// The places of a port.
pub(in crate::api) struct Admission {
    resource: Resource,
    quotas: Arc<Quotas>,
    proxies: Arc<TrustedProxies>,
    clock: Arc<Clock>,
    leaving: Arc<AtomicUsize>,
    // std Mutex: held to add one or look at some, never across .await
    live: Mutex<Live>,
}

/// The connections that are open, and some that are not any more.
#[derive(Default)]
struct Live {
    connections: Vec<Weak<Connection>>,
    /// Where the next look begins.
    next: usize,
}

impl Admission {
    /// Places that are counted as that resource.
    pub(in crate::api) fn new(
        resource: Resource,
        quotas: Arc<Quotas>,
        proxies: Arc<TrustedProxies>,
        clock: Arc<Clock>,
    ) -> Admission {
        Admission { resource, quotas, proxies, clock, leaving: Arc::default(), live: Mutex::default() }
    }

    /// Waits until one more connection has room on the port, and descriptors.
    pub(in crate::api) async fn room(&self) {
        while self.leaving.load(Ordering::Acquire) >= MOST_LEAVING {
            sleep(SHORT).await;
        }
        while self.quotas.used(self.resource) >= self.quotas.limit(self.resource).total {
            match self.longest_idle(None) {
                Some(idle) => idle.make_room(),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Frees a descriptor, where some connection does not need its own now.
    pub(in crate::api) fn make_room(&self) {
        if let Some(idle) = self.longest_idle(None) {
            idle.make_room();
        }
    }

    /// Takes a connection from that address; `None` where its peer has its share, and all of it is in use.
    pub(in crate::api) fn admit(&self, address: IpAddr) -> Option<Arc<Connection>> {
        let peer = self.quotas.peer(address, self.proxies.contains(address));
        let slot = peer.take(self.resource, 1).or_else(|full| {
            let idle = self.longest_idle(Some(&peer)).ok_or(full)?;
            idle.make_room();
            peer.take(self.resource, 1)
        });
        let connection = Arc::new(Connection::new(slot.ok()?, &self.clock, &self.leaving));
        let mut live = self.live();
        if live.connections.len() > LOOKED_AT + 2 * self.quotas.used(self.resource) {
            live.connections.retain(|connection| connection.strong_count() > 0);
        }
        live.connections.push(Arc::downgrade(&connection));
        Some(connection)
    }

    /// Does something to every open connection.
    pub(in crate::api) fn each(&self, act: impl Fn(&Connection)) {
        let live: Vec<_> = self.live().connections.iter().filter_map(Weak::upgrade).collect();
        live.iter().for_each(|connection| act(connection));
    }

    /// Of some connections, of that peer or any, the one that has been idle for longest.
    fn longest_idle(&self, of: Option<&Arc<Peer>>) -> Option<Arc<Connection>> {
        let mut live = self.live();
        let count = live.connections.len();
        let begin = live.next;
        live.next = (begin + LOOKED_AT) % count.max(1);
        let latest = Instant::now().checked_sub(GRACE)?;
        (0..count.min(LOOKED_AT))
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
