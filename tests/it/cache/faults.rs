//! Failures of Redis: killed, frozen, full, cut off from the network, restarted with old data. In each case callers do
//! not wait for it, reads stay monotonic, and the cache works again when Redis does.

use std::pin::pin;
use std::time::Duration;

use orderstream::cache::{Cache, Lookup, RedisCache};
use orderstream::order::OrderId;

use crate::bus::conformance::now;
use crate::cache::conformance::{fill, found, miss, order};
use crate::faults::network::NetworkFault;
use crate::harness::redis::{OwnRedis, in_use, joined};
use crate::harness::wait::until;

/// The timeout of the cache in production.
const SHORT: Duration = Duration::from_millis(30);

/// Asserts that a cache misses and invalidates at once, without a request to Redis.
fn assert_unused(cache: &RedisCache, id: OrderId) {
    assert_eq!(now(pin!(cache.get(id))), Some(Lookup::Miss(None)));
    assert_eq!(now(pin!(cache.invalidate(&[id]))), Some(()));
}

/// Asserts that a cache keeps and returns orders. With the short timeout it may miss once on a slow machine.
async fn assert_works(cache: &RedisCache) {
    let order = order(OrderId::generate(), 1);
    let kept = until("a cache that keeps", async || {
        if let Lookup::Miss(Some(lease)) = cache.get(order.id).await {
            cache.fill(lease, &order).await;
        }
        found(cache, order.id).await
    });
    assert_eq!(kept.await, order);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_opens_without_redis_and_delays_no_caller() {
    let redis = OwnRedis::start().await;
    redis.kill().await;
    let (ttl, id) = (Duration::from_secs(60), OrderId::generate());
    let cache = RedisCache::open(redis.address(), ttl, SHORT).expect("an address");
    assert_unused(&cache, id);
    let refused = |reason: String| reason.contains("Connection refused").then_some(());
    until("a reason", async || refused(cache.check().await.expect_err("no Redis runs").0)).await;
    assert_unused(&cache, id);
    redis.start_again().await;
    in_use(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_used_again_after_its_restart() {
    let redis = OwnRedis::start().await;
    let cache = redis.cache().await;
    assert_works(&cache).await;
    redis.kill().await;
    let id = OrderId::generate();
    // The cache notices the end of the connection before the first call or by it.
    assert_eq!(cache.get(id).await, Lookup::Miss(None));
    assert_unused(&cache, id);
    assert!(cache.check().await.is_err());
    redis.start_again().await;
    in_use(&*cache).await;
    assert_works(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_frozen_redis_are_not_used_afterwards() {
    let redis = OwnRedis::start().await;
    let cache = joined(redis.address(), SHORT).await;
    let held = order(OrderId::generate(), 1);
    until("a fill in time", async || {
        fill(&*cache, &held).await;
        found(&*cache, held.id).await
    })
    .await;
    redis.pause().await;
    for _ in 0..3 {
        assert_eq!(cache.get(held.id).await, Lookup::Miss(None));
    }
    assert_unused(&cache, held.id);
    redis.resume().await;
    in_use(&*cache).await;
    assert_eq!(found(&*cache, held.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_invalidation_stops_reads_from_the_cache() {
    let redis = OwnRedis::start().await;
    let (here, there) = (joined(redis.address(), SHORT).await, redis.cache().await);
    let held = order(OrderId::generate(), 1);
    fill(&*there, &held).await;
    redis.pause().await;
    here.invalidate(&[held.id]).await;
    assert_unused(&here, held.id);
    redis.resume().await;
    in_use(&*here).await;
    assert_eq!(found(&*there, held.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_changed_during_a_network_fault_are_not_found_afterwards() {
    let redis = OwnRedis::start().await;
    let network = NetworkFault::to(redis.address()).await;
    let (here, there) = (joined(&network.address(), SHORT).await, redis.cache().await);
    let (changed, missed) = (order(OrderId::generate(), 1), order(OrderId::generate(), 1));
    fill(&*there, &changed).await;
    let lease = miss(&*there, missed.id).await.expect("a Redis that works");
    network.cut();
    here.invalidate(&[changed.id, missed.id]).await;
    assert_unused(&here, changed.id);
    // The beginning of the next session drops them: no call of this process reached Redis.
    assert_eq!(found(&*there, changed.id).await, Some(changed.clone()));
    network.mend();
    in_use(&*here).await;
    assert_eq!(found(&*there, changed.id).await, None);
    there.fill(lease, &missed).await;
    assert_eq!(found(&*there, missed.id).await, None);
    assert_works(&there).await;
    assert_works(&here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_entries_of_a_restarted_redis_are_not_used() {
    let redis = OwnRedis::start().await;
    let (here, there) = (redis.cache().await, redis.cache().await);
    let old = order(OrderId::generate(), 1);
    fill(&*here, &old).await;
    let () = redis.command(&["SAVE"]).await;
    here.invalidate(&[old.id]).await;
    redis.kill().await;
    redis.start_again().await;
    let key = format!("orderstream:order:{}", old.id);
    assert!(redis.command::<bool>(&["EXISTS", &key]).await, "the snapshot holds the old copy");
    // This process has not noticed the restart.
    assert_eq!(found(&*there, old.id).await, None);
    in_use(&*there).await;
    assert_eq!(found(&*there, old.id).await, None);
    assert_works(&there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_returns_and_invalidates_but_keeps_no_new_orders() {
    let redis = OwnRedis::start().await;
    let cache = redis.cache().await;
    let (held, changed, fresh) =
        (order(OrderId::generate(), 1), order(OrderId::generate(), 1), order(OrderId::generate(), 1));
    fill(&*cache, &held).await;
    fill(&*cache, &changed).await;
    let lease = miss(&*cache, fresh.id).await.expect("a lease");
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    cache.fill(lease, &fresh).await;
    for id in [fresh.id, OrderId::generate()] {
        assert_eq!(cache.get(id).await, Lookup::Miss(None));
    }
    assert_eq!(found(&*cache, held.id).await, Some(held.clone()));
    cache.invalidate(&[changed.id]).await;
    assert_eq!(found(&*cache, changed.id).await, None);
    assert_eq!(cache.check().await, Ok(()));
    // Another process begins, and the entries from before are not used any more.
    let other = redis.cache().await;
    assert_eq!(found(&*other, held.id).await, None);
    assert_eq!(found(&*cache, held.id).await, None);
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_works(&cache).await;
    assert_works(&other).await;
}
