//! Redis in trouble: killed, frozen, full, emptied, cut off, back with old data. Whatever happens to it, nobody
//! waits for it and nobody is told of less than was told before; and when it works again, so does the cache.

use std::pin::pin;
use std::time::Duration;

use orderstream::cache::{Cache, Lookup, RedisCache};
use orderstream::order::OrderId;

use crate::bus::conformance::now;
use crate::cache::conformance::{fill, found, miss, order};
use crate::faults::network::NetworkFault;
use crate::harness::redis::{OwnRedis, in_use, joined};
use crate::harness::wait::until;

/// As long as a real one waits.
const SHORT: Duration = Duration::from_millis(30);

/// Asserts that a cache has nothing, and asks nobody to find out.
fn asks_nobody(cache: &RedisCache, id: OrderId) {
    assert_eq!(now(pin!(cache.get(id))), Some(Lookup::Miss(None)));
    assert_eq!(now(pin!(cache.invalidate(&[id]))), Some(()));
}

/// Asserts that a cache keeps and finds. One that waits as short as a real one may miss once on a slow machine.
async fn works(cache: &RedisCache) {
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
async fn without_redis_a_cache_is_opened_and_nobody_waits_for_it() {
    let redis = OwnRedis::start().await;
    redis.kill().await;
    let (ttl, id) = (Duration::from_secs(60), OrderId::generate());
    let cache = RedisCache::open(redis.address(), ttl, SHORT).expect("an address");
    asks_nobody(&cache, id);
    let refused = |reason: String| reason.contains("Connection refused").then_some(());
    until("a reason", async || refused(cache.check().await.expect_err("there is no Redis").0)).await;
    asks_nobody(&cache, id);
    redis.start_again().await;
    in_use(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_asked_once_and_then_when_it_is_back() {
    let redis = OwnRedis::start().await;
    let cache = redis.cache().await;
    works(&cache).await;
    redis.kill().await;
    let id = OrderId::generate();
    // Whether the connection's end is noticed before the first call or by it.
    assert_eq!(cache.get(id).await, Lookup::Miss(None));
    asks_nobody(&cache, id);
    assert!(cache.check().await.is_err());
    redis.start_again().await;
    in_use(&*cache).await;
    works(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_asked_a_few_times_and_what_it_held_is_not_believed_afterwards() {
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
    asks_nobody(&cache, held.id);
    redis.resume().await;
    in_use(&*cache).await;
    assert_eq!(found(&*cache, held.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_that_could_not_be_dropped_ends_the_reading() {
    let redis = OwnRedis::start().await;
    let (here, there) = (joined(redis.address(), SHORT).await, redis.cache().await);
    let held = order(OrderId::generate(), 1);
    fill(&*there, &held).await;
    redis.pause().await;
    here.invalidate(&[held.id]).await;
    asks_nobody(&here, held.id);
    redis.resume().await;
    in_use(&*here).await;
    assert_eq!(found(&*there, held.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_changed_while_it_was_cut_off_is_found_by_nobody_once_it_is_back() {
    let redis = OwnRedis::start().await;
    let network = NetworkFault::to(redis.address()).await;
    let (here, there) = (joined(&network.address(), SHORT).await, redis.cache().await);
    let (changed, missed) = (order(OrderId::generate(), 1), order(OrderId::generate(), 1));
    fill(&*there, &changed).await;
    let lease = miss(&*there, missed.id).await.expect("a Redis that works");
    network.cut();
    here.invalidate(&[changed.id, missed.id]).await;
    asks_nobody(&here, changed.id);
    // It is the beginning of the next session that drops them: no call of this process came through.
    assert_eq!(found(&*there, changed.id).await, Some(changed.clone()));
    network.mend();
    in_use(&*here).await;
    assert_eq!(found(&*there, changed.id).await, None);
    there.fill(lease, &missed).await;
    assert_eq!(found(&*there, missed.id).await, None);
    works(&there).await;
    works(&here).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_back_with_old_data_is_not_believed() {
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
    // This one has not noticed anything.
    assert_eq!(found(&*there, old.id).await, None);
    in_use(&*there).await;
    assert_eq!(found(&*there, old.id).await, None);
    works(&there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_finds_and_forgets_and_keeps_nothing_more() {
    let redis = OwnRedis::start().await;
    let cache = redis.cache().await;
    let (held, changed, fresh) =
        (order(OrderId::generate(), 1), order(OrderId::generate(), 1), order(OrderId::generate(), 1));
    fill(&*cache, &held).await;
    fill(&*cache, &changed).await;
    let lease = miss(&*cache, fresh.id).await.expect("room for a lease");
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    cache.fill(lease, &fresh).await;
    for id in [fresh.id, OrderId::generate()] {
        assert_eq!(cache.get(id).await, Lookup::Miss(None));
    }
    assert_eq!(found(&*cache, held.id).await, Some(held.clone()));
    cache.invalidate(&[changed.id]).await;
    assert_eq!(found(&*cache, changed.id).await, None);
    assert_eq!(cache.check().await, Ok(()));
    // Another process begins, and nothing of before is believed any more.
    let other = redis.cache().await;
    assert_eq!(found(&*other, held.id).await, None);
    assert_eq!(found(&*cache, held.id).await, None);
    let () = redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    works(&cache).await;
    works(&other).await;
}
