//! A Redis of one test's own, to be filled, emptied and broken; it goes when its handle does. `scripts/servers` has
//! the verbs, and a folder of the test's own keeps them off everybody else's server.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use orderstream::cache::{Cache, RedisCache};
use redis::{Client, FromRedisValue, cmd};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::wait::{until, within};

/// Longer than a busy machine takes for an answer, so that only what a test breaks is broken.
const PATIENT: Duration = Duration::from_secs(1);

/// How long an entry lasts: longer than any test.
const TTL: Duration = Duration::from_secs(3600);

/// A running Redis, or one that was killed.
pub(crate) struct OwnRedis {
    folder: Arc<TempDir>,
    address: String,
}

impl OwnRedis {
    /// Starts one.
    pub(crate) async fn start() -> OwnRedis {
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        let mut redis = OwnRedis { folder, address: String::new() };
        redis.address = redis.up().await;
        redis
    }

    async fn up(&self) -> String {
        let said = self.run(&["up", "redis"]).await;
        let address = said.trim().strip_prefix("REDIS_ADDR=").expect("an address");
        address.to_owned()
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends it by SIGKILL.
    pub(crate) async fn kill(&self) {
        self.run(&["kill", "redis"]).await;
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&self) {
        assert_eq!(self.up().await, self.address);
    }

    /// Freezes it by SIGSTOP.
    pub(crate) async fn pause(&self) {
        self.run(&["pause", "redis"]).await;
    }

    /// Has it go on.
    pub(crate) async fn resume(&self) {
        self.run(&["resume", "redis"]).await;
    }

    /// Has it carry out a command.
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
        joined(self.address(), PATIENT).await
    }

    /// The cache of one process that waits as long as a real one does, in use.
    pub(crate) async fn hasty_cache(&self) -> Arc<RedisCache> {
        joined(self.address(), Duration::from_millis(30)).await
    }

    async fn run(&self, arguments: &'static [&str]) -> String {
        let folder = Arc::clone(&self.folder);
        let output = spawn_blocking(move || servers(&folder, arguments)).await.expect("no panic");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/servers {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("it prints text")
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

fn servers(folder: &TempDir, arguments: &[&str]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let mut command = Command::new(script);
    command.args(arguments).env("ORDERSTREAM_SERVERS", folder.path().join("servers"));
    command.env_remove("REDIS_ADDR").output().expect("scripts/servers can be run")
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = servers(&self.folder, &["down", "--purge"]);
    }
}
