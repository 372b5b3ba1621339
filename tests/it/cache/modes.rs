//! The modes of Redis, and several services on one Redis. The cache refuses a node of a cluster and a Sentinel: it logs
//! the reason once, and keeps trying to connect. The keys of each service begin with its own prefix.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use orderstream::cache::{Cache, Lookup, RedisCache};
use orderstream::order::OrderId;
use redis::{Client, InfoDict, cmd};
use tempfile::{NamedTempFile, TempDir};

use crate::cache::conformance::{fill, found, order};
use crate::harness::binary::{Place, Process, Server};
use crate::harness::ports;
use crate::harness::redis::{OwnRedis, in_use};
use crate::harness::wait::until;

/// A Redis in a special mode, and its address.
struct Special {
    _process: Process,
    _folder: TempDir,
    address: String,
}

impl Special {
    /// Starts one with these lines of configuration.
    fn start(lines: &str, args: &[&str]) -> Special {
        let folder = TempDir::new().unwrap();
        let port = ports::for_a_program();
        let file = folder.path().join("redis.conf");
        let dir = folder.path().display();
        std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\ndir {dir}\n{lines}\n")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).args(args);
        Special {
            _process: Process::spawn(&mut command),
            _folder: folder,
            address: format!("127.0.0.1:{port}"),
        }
    }

    /// How many connections it has accepted; `None` until it answers.
    async fn connections(&self) -> Option<u64> {
        let client = Client::open(format!("redis://{}", self.address)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let info: InfoDict = cmd("INFO").arg("stats").query_async(&mut connection).await.ok()?;
        info.get("total_connections_received")
    }
}

/// Asserts that a server with such a cache logs once why it does not use it, and works without it.
async fn assert_refused_once(special: &Special, reason: &str) {
    let before = until("Redis", async || special.connections().await).await;
    let (place, log) = (Place::new(), NamedTempFile::new().unwrap());
    let mut command = place.command(&["up"]);
    command.env("REDIS_ADDR", &special.address).env("LOG_LEVEL", "info").stderr(log.reopen().unwrap());
    let server = Server::start(&mut command);
    let lines = |text: &str| -> usize {
        std::fs::read_to_string(log.path()).unwrap().lines().filter(|line| line.contains(text)).count()
    };
    until("a log with the reason", async || (lines(reason) > 0).then_some(())).await;
    // The server keeps trying to connect; each check of this test is one more connection.
    let mut checks = 0;
    until("further attempts", async || {
        checks += 1;
        let accepted = special.connections().await?;
        (accepted >= before + checks + 4).then_some(())
    })
    .await;
    assert_eq!((lines(reason), lines("the cache is")), (1, 1));
    let user = crate::clients::USER;
    let created = server.orders(&place, &["create", "--user", user, "--payload", r#"{"amount":"1"}"#]).ok();
    assert!(created.contains("created"), "{created}");
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_once_with_the_reason() {
    let special = Special::start("cluster-enabled yes", &[]);
    assert_refused_once(&special, "REDIS_ADDR names a node of a Redis Cluster").await;
}

#[tokio::test]
async fn a_sentinel_is_refused_once_with_the_reason() {
    let special = Special::start("", &["--sentinel"]);
    assert_refused_once(&special, "REDIS_ADDR names a Sentinel").await;
}

#[tokio::test]
async fn services_with_different_prefixes_share_a_redis_but_no_keys() {
    let redis = OwnRedis::start().await;
    let open = async |prefix: &str| {
        let (ttl, timeout) = (Duration::from_secs(3600), Duration::from_secs(1));
        let cache = RedisCache::open_with(redis.address(), prefix, ttl, timeout).expect("an address");
        in_use(&cache).await;
        cache
    };
    let (one, other) = (open("shop:one").await, open("shop:other").await);
    let (of_one, of_other) = (order(OrderId::generate(), 1), OrderId::generate());
    fill(&one, &of_one).await;
    assert!(matches!(other.get(of_one.id).await, Lookup::Miss(Some(_))));
    other.invalidate(&[of_one.id]).await;
    assert!(matches!(other.get(of_other).await, Lookup::Miss(Some(_))));
    assert_eq!(found(&one, of_one.id).await, Some(of_one.clone()));
    // A new session of a service drops only the copies of that service.
    drop(other);
    let other = open("shop:other").await;
    assert_eq!(found(&one, of_one.id).await, Some(of_one));
    assert!(matches!(other.get(of_other).await, Lookup::Miss(Some(_))));
    let keys: HashSet<String> = redis.command(&["KEYS", "*"]).await;
    assert!(
        keys.iter().all(|key| key.starts_with("shop:one:") || key.starts_with("shop:other:")),
        "{keys:?}"
    );
    assert!(keys.contains("shop:one:generation") && keys.contains("shop:other:generation"), "{keys:?}");
}
