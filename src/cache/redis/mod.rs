//! The cache in Redis, shared by all processes on one store. It keeps the promises of [`Cache`] by three mechanisms.
//!
//! *Leases*: a miss leaves a lease under the order's key, and a fill counts only while the lease is still there. A
//! change deletes the key, and the lease with it, after its commit and before its caller is answered: a slow reader
//! cannot fill in an older version. *One generation*: an entry counts only in the generation that it was made in, so
//! deleting that one key makes all entries void. *Sessions*: after any failure that may have kept a change from being
//! invalidated, this process does not read old entries, and makes them void for all processes (see [`session`]).
//!
//! A call never waits longer than the budget, and never fails.

mod entry;
mod pauses;
mod script;
mod session;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Client, IntoConnectionInfo, Script, cmd};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::entry::Entry;
use self::script::{LEASE_BYTES, LEASE_MILLIS, PREFIX, generation, key};
use self::session::{SessionManager, Tolerance};
use super::port::{Cache, Lease, Lookup, Unavailable};
use crate::order::{Order, OrderId};
use crate::shutdown::Components;

/// The most bytes of a copy. Larger ones are rare, and would delay all other calls on the connection.
const LARGEST: usize = 64 << 10;

/// A cache in Redis.
pub struct RedisCache {
    sessions: Arc<SessionManager>,
    prefix: String,
    lookup: Script,
    fill: Script,
    ttl: Duration,
    components: Components,
    _keeper: AbortOnDropHandle<()>,
}

/// The address of Redis cannot be read. It may hold a password, so it is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither host:port nor a URL redis://user:password@host:port/database (rediss:// with TLS)")]
pub struct BadAddress;

impl RedisCache {
    /// A cache in the Redis at `address`, `host:port` or a `redis://` or `rediss://` URL. Redis is reached in the
    /// background, now or when it is there. A copy is kept for `ttl` at the most; a call takes at most `timeout`.
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn open(address: &str, ttl: Duration, timeout: Duration) -> Result<RedisCache, BadAddress> {
        RedisCache::open_with(address, PREFIX, ttl, timeout)
    }

    /// The same, with the prefix of all keys: services that share a Redis need one each, and all processes on one store
    /// the same.
    ///
    /// # Errors
    /// [`BadAddress`].
    pub fn open_with(
        address: &str,
        prefix: &str,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<RedisCache, BadAddress> {
        let sessions = Arc::new(SessionManager::new(client(address)?, timeout, generation(prefix)));
        let keeper = Arc::clone(&sessions);
        let components = Components::default();
        let component = components.component("the session manager of Redis");
        let keeper = tokio::spawn(async move {
            let _component = component;
            keeper.keep().await;
        });
        let _keeper = AbortOnDropHandle::new(keeper);
        let prefix = prefix.to_owned();
        Ok(RedisCache {
            sessions,
            prefix,
            lookup: script::lookup(),
            fill: script::fill(),
            ttl,
            components,
            _keeper,
        })
    }
}

fn client(address: &str) -> Result<Client, BadAddress> {
    let url = match address.split_once("://") {
        Some(("redis" | "rediss", _)) => address.to_owned(),
        Some(_) => return Err(BadAddress),
        None => format!("redis://{address}"),
    };
    let info = url.into_connection_info().map_err(|_| BadAddress)?;
    // Nagle's algorithm alone would take longer than the budget.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(tcp)).map_err(|_| BadAddress)
}

#[async_trait]
impl Cache for RedisCache {
    async fn failed(&self) -> &'static str {
        self.components.failed().await
    }

    async fn get(&self, order_id: OrderId) -> Lookup {
        let Ok(session) = self.sessions.reading() else { return Lookup::Miss(None) };
        let (token, mut redis) = (Uuid::now_v7(), session.connection());
        let mut call = self.lookup.key(key(&self.prefix, order_id));
        let call = call.key(generation(&self.prefix)).arg(token.as_bytes()).arg(LEASE_MILLIS);
        let held: Option<Vec<u8>> =
            self.sessions.ask(&session, Tolerance::Few, call.invoke_async(&mut redis)).await.unwrap_or(None);
        let Some((token, copy)) = held.as_deref().and_then(<[u8]>::split_first_chunk::<LEASE_BYTES>) else {
            return Lookup::Miss(None);
        };
        let lease = Lease { order_id, token: *token };
        if copy.is_empty() {
            return Lookup::Miss(Some(lease));
        }
        match entry::decode(copy, order_id) {
            Entry::Order(order) => Lookup::Hit(order),
            // Processes of that version can read it.
            Entry::Foreign => Lookup::Miss(None),
            // The fill finds another value than it would write, and drops it.
            Entry::Damaged => Lookup::Miss(Some(lease)),
        }
    }

    async fn fill(&self, lease: Lease, order: &Order) {
        let copy = entry::encode(order);
        if copy.len() > LARGEST {
            return self.invalidate(&[order.id]).await;
        }
        let Ok(session) = self.sessions.reading() else { return };
        let mut redis = session.connection();
        let mut call = self.fill.key(key(&self.prefix, lease.order_id));
        let call = call.arg(&lease.token[..]).arg(copy).arg(millis(self.ttl));
        let filled = self.sessions.ask(&session, Tolerance::Few, call.invoke_async::<()>(&mut redis)).await;
        // A failed fill loses nothing: the next reader fills the entry.
        drop(filled);
    }

    async fn invalidate(&self, orders: &[OrderId]) {
        let Some(session) = self.sessions.writing().filter(|_| !orders.is_empty()) else { return };
        let mut redis = session.connection();
        let keys: Vec<String> = orders.iter().map(|order_id| key(&self.prefix, *order_id)).collect();
        let mut command = cmd("UNLINK");
        let call = command.arg(keys).exec_async(&mut redis);
        // A failure ends the session, and the beginning of the next one makes all entries void.
        drop(self.sessions.ask(&session, Tolerance::None, call).await);
    }

    async fn check(&self) -> Result<(), Unavailable> {
        let session = self.sessions.reading()?;
        let (ping, mut redis) = (cmd("PING"), session.connection());
        self.sessions.ask(&session, Tolerance::Few, ping.exec_async(&mut redis)).await
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_port_or_a_url() {
        let address = |text| client(text).map(|client| client.get_connection_info().addr().to_string());
        assert_eq!(address("localhost:7000"), Ok("localhost:7000".to_owned()));
        assert_eq!(address("[::1]:7000"), Ok("::1:7000".to_owned()));
        assert_eq!(address("redis://u:p%40ss@cache:7001/3"), Ok("cache:7001".to_owned()));
        assert_eq!(address("rediss://cache/"), Ok("cache:6379".to_owned()));
        let client = client("redis://u:p%40ss@cache:7001/3").unwrap();
        let settings = client.get_connection_info().redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("u"), Some("p@ss"), 3));
        for text in
            ["", ":", "host:port", "http://cache:1", "unix:///tmp/x", "redis://", "redis://h/x", "a b:1"]
        {
            assert_eq!(address(text), Err(BadAddress), "{text:?}");
        }
    }
}
