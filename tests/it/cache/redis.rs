//! The cache in Redis: the conformance suite, damaged and foreign entries in Redis, and a property test over the
//! possible orders of the steps of readers and writers. It relies on a Redis of its own for each test.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use orderstream::cache::{Cache, Lease, Lookup, RedisCache};
use orderstream::order::{Order, OrderId, Version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use crate::cache::conformance::{Fresh, cache_conformance, fill, found, order};
use crate::harness::redis::{OwnRedis, joined};
use crate::harness::wait::until;

async fn fresh_cache() -> Fresh {
    let redis = OwnRedis::start().await;
    Fresh { here: redis.cache().await, there: redis.cache().await, _keep: Box::new(redis) }
}

mod conformance {
    use super::{cache_conformance, fresh_cache};

    cache_conformance!(fresh_cache);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_content_of_redis_is_an_order_or_a_miss() {
    let redis = OwnRedis::start().await;
    let (cache, order) = (redis.cache().await, order(OrderId::generate(), 1));
    let key = &format!("orderstream:order:{}", order.id);
    fill(&*cache, &order).await;
    let left: i64 = redis.command(&["PTTL", key]).await;
    assert!(left > 0, "an entry never expires");

    // The cache detects a changed byte, and drops the entry.
    let length: isize = redis.command(&["STRLEN", key]).await;
    let () = redis.command(&["SETRANGE", key, &(length - 1).to_string(), "X"]).await;
    assert_eq!(found(&*cache, order.id).await, None);
    fill(&*cache, &order).await;
    fill(&*cache, &order).await;
    assert_eq!(found(&*cache, order.id).await, Some(order.clone()));

    // The cache leaves an entry of another version of the program to the readers of that version.
    let () = redis.command(&["SETRANGE", key, "32", "1"]).await;
    assert_eq!(cache.get(order.id).await, Lookup::Miss(None));
    assert_eq!(redis.command::<isize>(&["STRLEN", key]).await, length);

    // The cache replaces a value of another type, under either key.
    for key in [key, "orderstream:generation"] {
        let () = redis.command(&["DEL", key]).await;
        let () = redis.command(&["RPUSH", key, "x"]).await;
        fill(&*cache, &order).await;
        assert_eq!(found(&*cache, order.id).await, Some(order.clone()));
    }
    for garbage in ["", "x", "0123456789abcdef"] {
        for key in [key, "orderstream:generation"] {
            let () = redis.command(&["SET", key, garbage]).await;
            assert_eq!(found(&*cache, order.id).await, None, "{key} {garbage:?}");
        }
    }
    let () = redis.command(&["SCRIPT", "FLUSH"]).await;
    fill(&*cache, &order).await;
    let () = redis.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(found(&*cache, order.id).await, Some(order));
    assert_eq!(cache.check().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_sets_user_password_and_database() {
    let redis = OwnRedis::start().await;
    let () = redis.command(&["ACL", "SETUSER", "orders", "on", ">p@ss", "~orderstream:*", "+@all"]).await;
    let () = redis.command(&["ACL", "SETUSER", "default", "off"]).await;
    let url = format!("redis://orders:p%40ss@{}/3", redis.address());
    let cache = joined(&url, Duration::from_secs(1)).await;
    let order = order(OrderId::generate(), 1);
    fill(&*cache, &order).await;
    assert_eq!(found(&*cache, order.id).await, Some(order));
    let keys: String = redis.command_as("orders:p%40ss@", &["INFO", "keyspace"]).await;
    assert!(keys.contains("db3:keys=2,") && !keys.contains("db0"), "{keys}");
    let stranger = RedisCache::open(redis.address(), Duration::from_secs(1), Duration::from_secs(1));
    let stranger = stranger.expect("an address");
    let reason = until("a refusal", async || {
        let reason = stranger.check().await.expect_err("a refusal without a password").to_string();
        Some(reason).filter(|reason| !reason.contains("not been reached yet"))
    })
    .await;
    assert!(!reason.contains("p@ss"), "{reason}");
}

/// A step of one reader, writer or process, between any two steps of the others. Numbers are indexes in small lists.
#[derive(Debug, Clone)]
enum Step {
    /// A reader continues: it looks up, reads the database, fills and answers.
    Read(usize),
    /// A writer continues: it commits, invalidates and answers.
    Write(usize),
    /// Redis loses everything.
    Flush,
    /// Redis loses one order: it expires, or is evicted.
    Lose(usize),
    /// A process begins a session after a time in which it could not invalidate anything.
    Begin,
}

const ORDERS: usize = 2;
const READERS: usize = 4;
const WRITERS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..READERS).prop_map(Step::Read),
        6 => (0..WRITERS).prop_map(Step::Write),
        1 => Just(Step::Flush),
        1 => (0..ORDERS).prop_map(Step::Lose),
        1 => Just(Step::Begin),
    ];
    prop::collection::vec(step, 1..60)
}

/// The next action of a reader.
#[derive(Clone)]
enum Reader {
    LookUp,
    ReadStore(Lease),
    Fill(Lease, Box<Order>),
}

/// Two processes with one cache each, a database, and the versions that callers have seen.
struct World<'a> {
    redis: &'a OwnRedis,
    caches: [Arc<RedisCache>; 2],
    orders: [OrderId; ORDERS],
    database: [Version; ORDERS],
    /// The newest version of each order that a caller has seen.
    seen: [Version; ORDERS],
    readers: Vec<Reader>,
    /// The committed versions whose orders are not yet invalidated.
    writers: [Option<Version>; WRITERS],
    hits: usize,
}

impl World<'_> {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Read(reader) => self.read(reader).await,
            Step::Write(writer) => self.write(writer).await,
            Step::Flush => self.redis.command(&["FLUSHALL"]).await,
            Step::Lose(order) => {
                let key = format!("orderstream:order:{}", self.orders[order]);
                self.redis.command(&["DEL", &key]).await
            }
            Step::Begin => {
                let () = self.redis.command(&["DEL", "orderstream:generation"]).await;
                for writer in 0..WRITERS {
                    self.confirm(writer);
                }
            }
        }
    }

    async fn read(&mut self, reader: usize) {
        let (order_index, cache) = (reader % ORDERS, Arc::clone(&self.caches[reader / ORDERS % 2]));
        let id = self.orders[order_index];
        self.readers[reader] = match self.readers[reader].clone() {
            Reader::LookUp => match cache.get(id).await {
                Lookup::Hit(order) => {
                    self.answer_hit(order_index, order.version);
                    Reader::LookUp
                }
                Lookup::Miss(lease) => Reader::ReadStore(lease.expect("a Redis that works")),
            },
            Reader::ReadStore(lease) => Reader::Fill(lease, Box::new(order(id, self.database[order_index]))),
            Reader::Fill(lease, order) => {
                cache.fill(lease, &order).await;
                // Its lookup began earlier: it may answer with an older version than others did since.
                self.seen[order_index] = self.seen[order_index].max(order.version);
                Reader::LookUp
            }
        };
    }

    /// Answers a caller with a hit, whose lookup began after the answers so far.
    fn answer_hit(&mut self, order_index: usize, version: Version) {
        let seen = self.seen[order_index];
        assert!(version >= seen, "a caller sees version {version} after version {seen}");
        self.seen[order_index] = version;
        self.hits += 1;
    }

    async fn write(&mut self, writer: usize) {
        let (order_index, cache) = (writer % ORDERS, &self.caches[writer / ORDERS % 2]);
        match self.writers[writer] {
            None => {
                self.database[order_index] += 1;
                self.writers[writer] = Some(self.database[order_index]);
            }
            Some(_) => {
                cache.invalidate(&[self.orders[order_index]]).await;
                self.confirm(writer);
            }
        }
    }

    /// Answers the caller of a writer after its commit.
    fn confirm(&mut self, writer: usize) {
        if let Some(version) = self.writers[writer].take() {
            let seen = &mut self.seen[writer % ORDERS];
            *seen = version.max(*seen);
        }
    }
}

#[test]
fn reads_are_monotonic_for_every_order_of_steps() {
    let runtime = Runtime::new().expect("a runtime");
    let (redis, caches) = runtime.block_on(async {
        let redis = OwnRedis::start().await;
        let caches = [redis.cache().await, redis.cache().await];
        (redis, caches)
    });
    let hits = Cell::new(0);
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let mut world = World {
                redis: &redis,
                caches: caches.clone(),
                orders: [OrderId::generate(), OrderId::generate()],
                database: [1; ORDERS],
                seen: [1; ORDERS],
                readers: vec![Reader::LookUp; READERS],
                writers: [None; WRITERS],
                hits: 0,
            };
            for step in &steps {
                world.take(step).await;
            }
            hits.set(hits.get() + world.hits);
        });
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(hits.get() > 100, "a cache that keeps nothing is never wrong: {} hits", hits.get());
}
