//! A Redis of one test, which it can fill, empty and break, and the caches of processes that use it. Dropping the
//! handle ends the server. Each test has its own, because all caches of a Redis share one key, the generation.

use std::sync::Arc;
use std::time::Duration;

use orderstream::cache::{Cache, RedisCache};
use redis::{Client, FromRedisValue, cmd};
use tokio::task::spawn_blocking;

use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};

/// A timeout that is longer than an answer takes on a busy machine, so that only the faults of a test count.
const LONG_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an entry lasts: longer than any test.
const TTL: Duration = Duration::from_secs(3600);

/// A running Redis, or one that was killed.
pub(crate) struct OwnRedis {
    servers: Arc<Private>,
    address: String,
}

impl OwnRedis {
    /// Starts a Redis.
    pub(crate) async fn start() -> OwnRedis {
        let mut redis = OwnRedis { servers: Arc::new(Private::new()), address: String::new() };
        redis.address = redis.up().await;
        redis
    }

    async fn up(&self) -> String {
        self.blocking(|servers| servers.up(Server::Redis)).await
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends the server by SIGKILL.
    pub(crate) async fn kill(&self) {
        self.blocking(|servers| servers.kill("redis")).await;
    }

    /// Starts the server again, at the same address.
    pub(crate) async fn start_again(&self) {
        assert_eq!(self.up().await, self.address);
    }

    /// Pauses the server by SIGSTOP.
    pub(crate) async fn pause(&self) {
        self.blocking(|servers| servers.pause("redis")).await;
    }

    /// Resumes the server.
    pub(crate) async fn resume(&self) {
        self.blocking(|servers| servers.resume("redis")).await;
    }

    /// Runs a command on the server.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.command_as("", words).await
    }

    /// The same as a user, `name:password@`.
    pub(crate) async fn command_as<T: FromRedisValue>(&self, user: &str, words: &[&str]) -> T {
        let client = Client::open(format!("redis://{user}{}", self.address)).expect("an address");
        within("Redis", async {
            let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
            cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.expect("an answer")
        })
        .await
    }

    /// The cache of one process, in use.
    pub(crate) async fn cache(&self) -> Arc<RedisCache> {
        joined(self.address(), LONG_TIMEOUT).await
    }

    /// The cache of one process with the short timeout that is the default, in use.
    pub(crate) async fn short_timeout_cache(&self) -> Arc<RedisCache> {
        joined(self.address(), Duration::from_millis(30)).await
    }

    /// Runs the script on a thread that may block.
    async fn blocking<T: Send + 'static>(&self, verb: impl FnOnce(&Private) -> T + Send + 'static) -> T {
        let servers = Arc::clone(&self.servers);
        spawn_blocking(move || verb(&servers)).await.expect("a script that succeeds")
    }
}

/// A cache that has begun to use the Redis at an address.
pub(crate) async fn joined(address: &str, timeout: Duration) -> Arc<RedisCache> {
    let cache = Arc::new(RedisCache::open(address, TTL, timeout).expect("an address"));
    in_use(&*cache).await;
    cache
}

/// Waits until a cache answers.
pub(crate) async fn in_use(cache: &dyn Cache) {
    until("the cache", async || cache.check().await.ok()).await;
}
