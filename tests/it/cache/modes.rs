//! Which Redis can be the cache, and how several services share one: a node of a cluster and a Sentinel are refused
//! with the reason, once, however often they are asked again; keys begin with a prefix of each service's own.

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

/// A Redis in a mode of its own, and where it is.
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

    /// How many connections it has taken, once it answers.
    async fn connections(&self) -> Option<u64> {
        let client = Client::open(format!("redis://{}", self.address)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let info: InfoDict = cmd("INFO").arg("stats").query_async(&mut connection).await.ok()?;
        info.get("total_connections_received")
    }
}

/// A server with such a cache says once why it does not use it, and works without it.
async fn is_refused_once(special: &Special, reason: &str) {
    let before = until("Redis", async || special.connections().await).await;
    let (place, log) = (Place::new(), NamedTempFile::new().unwrap());
    let mut command = place.command(&["up"]);
    command.env("REDIS_ADDR", &special.address).env("LOG_LEVEL", "info").stderr(log.reopen().unwrap());
    let server = Server::start(&mut command);
    let lines = |text: &str| -> usize {
        std::fs::read_to_string(log.path()).unwrap().lines().filter(|line| line.contains(text)).count()
    };
    until("a log that says why", async || (lines(reason) > 0).then_some(())).await;
    // It is asked again meanwhile: each look of this test is one more connection.
    let mut looks = 0;
    until("further attempts", async || {
        looks += 1;
        let taken = special.connections().await?;
        (taken >= before + looks + 4).then_some(())
    })
    .await;
    assert_eq!((lines(reason), lines("the cache is")), (1, 1));
    let user = crate::clients::USER;
    let created = server.orders(&place, &["create", "--user", user, "--payload", r#"{"amount":"1"}"#]).ok();
    assert!(created.contains("created"), "{created}");
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_with_the_reason_and_once() {
    let special = Special::start("cluster-enabled yes", &[]);
    is_refused_once(&special, "REDIS_ADDR names a node of a Redis Cluster").await;
}

#[tokio::test]
async fn a_sentinel_is_refused_with_the_reason_and_once() {
    let special = Special::start("", &["--sentinel"]);
    is_refused_once(&special, "REDIS_ADDR names a Sentinel").await;
}

#[tokio::test]
async fn services_with_different_prefixes_share_a_redis_and_no_key() {
    let redis = OwnRedis::start().await;
    let open = async |prefix: &str| {
        let (ttl, timeout) = (Duration::from_secs(3600), Duration::from_secs(1));
        let cache = RedisCache::open_with(redis.address(), prefix, ttl, timeout).expect("an address");
        in_use(&cache).await;
        cache
    };
    let (one, other) = (open("shop:one").await, open("shop:other").await);
    let (ours, theirs) = (order(OrderId::generate(), 1), OrderId::generate());
    fill(&one, &ours).await;
    assert!(matches!(other.get(ours.id).await, Lookup::Miss(Some(_))));
    other.invalidate(&[ours.id]).await;
    assert!(matches!(other.get(theirs).await, Lookup::Miss(Some(_))));
    assert_eq!(found(&one, ours.id).await, Some(ours.clone()));
    // One that begins anew empties its own copies alone.
    drop(other);
    let other = open("shop:other").await;
    assert_eq!(found(&one, ours.id).await, Some(ours));
    assert!(matches!(other.get(theirs).await, Lookup::Miss(Some(_))));
    let keys: HashSet<String> = redis.command(&["KEYS", "*"]).await;
    assert!(
        keys.iter().all(|key| key.starts_with("shop:one:") || key.starts_with("shop:other:")),
        "{keys:?}"
    );
    assert!(keys.contains("shop:one:generation") && keys.contains("shop:other:generation"), "{keys:?}");
}
