//! Tests of quotas: shares and totals, merged permits, peers that reconnect, turns. They take permits from peers, as
//! the fronts do, out of ten units of each resource, six for one peer. No test waits: a turn that is not free is polled
//! once, and a dropped permit counts at once.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;

use super::*;

/// Ten units of each resource, six for one peer.
fn quotas() -> Arc<Quotas> {
    Quotas::new(|_| Limit { total: 10, per_peer: 6 })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn one_peer_holds_its_share_and_all_peers_the_total() {
    let quotas = quotas();
    let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| quotas.peer(address(text), false));
    let mut first = one.take(Resource::Memory, 4).unwrap();
    assert!(one.take(Resource::Memory, 3).is_err());
    assert!(first.grow(3).is_err());
    assert!(first.grow(2).is_ok());
    assert_eq!((first.units(), quotas.used(Resource::Memory)), (6, 6));
    assert!(other.take(Resource::Memory, 5).is_err(), "the total counts, too");
    let second = other.take(Resource::Memory, 4).unwrap();
    assert!(one.take(Resource::Calls, 6).is_ok(), "another resource is another limit");
    drop(second);
    first.shrink_to(1);
    assert_eq!(quotas.used(Resource::Memory), 1);
    drop(first);
    assert_eq!(quotas.used(Resource::Memory), 0);
}

#[test]
fn permits_are_merged_without_a_unit_gained_or_lost() {
    let quotas = quotas();
    let peer = quotas.peer(address("10.0.0.1"), false);
    let [mut whole, part] = [2, 4].map(|units| peer.take(Resource::Memory, units).unwrap());
    whole.merge(part);
    assert_eq!((whole.units(), quotas.used(Resource::Memory)), (6, 6));
    drop(whole);
    assert_eq!(quotas.used(Resource::Memory), 0);
}

#[test]
fn a_turn_counts_until_it_ends_also_where_its_peer_reconnects() {
    let quotas = quotas();
    let turn = |peer: Arc<Peer>| async move { peer.turn(Turn::Page).now_or_never() };
    let peer = || quotas.peer(address("10.0.0.1"), false);
    let taken: Vec<_> = (0..2).map(|_| turn(peer()).now_or_never().unwrap().expect("a turn")).collect();
    assert!(turn(peer()).now_or_never().unwrap().is_none());
    drop(taken);
    assert!(turn(peer()).now_or_never().unwrap().is_some());
}

#[test]
fn a_proxy_and_other_clients_of_its_network_are_separate_peers() {
    let quotas = quotas();
    let proxy = || quotas.peer(address("2001:db8::10"), true);
    let other_peer = || quotas.peer(address("2001:db8::66"), false);
    let held = (proxy(), other_peer());
    assert!(held.0.speaks_for_others() && !held.1.speaks_for_others());
    drop(held);
    let held = (other_peer(), proxy());
    assert!(held.1.speaks_for_others() && !held.0.speaks_for_others());
    assert!(Arc::ptr_eq(&held.0, &quotas.peer(address("2001:db8::67"), false)));
}

#[test]
fn a_peer_that_reconnects_still_holds_its_permits() {
    let quotas = quotas();
    let held = quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 6).unwrap();
    assert!(quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 1).is_err());
    drop(held);
    assert!(quotas.has_no_peer(), "a peer that holds nothing is removed");
    assert!(quotas.peer(address("10.0.0.1"), false).take(Resource::Memory, 6).is_ok());
}

#[test]
fn an_ipv6_peer_is_its_whole_network_and_a_mapped_address_is_the_ipv4_one() {
    let quotas = quotas();
    let same = |one: &str, other: &str| {
        Arc::ptr_eq(&quotas.peer(address(one), false), &quotas.peer(address(other), false))
    };
    let held = ["2001:db8::1", "10.0.0.1"].map(|text| quotas.peer(address(text), false));
    assert!(same("2001:db8::1", "2001:db8::ffff:1"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
    drop(held);
}

#[test]
fn a_share_is_at_least_its_floor_and_at_most_all() {
    assert_eq!(Limit::shared(1000, 50, 16).per_peer, 500);
    assert_eq!(Limit::shared(20, 50, 16).per_peer, 16);
    assert_eq!(Limit::shared(1, 1, 16).per_peer, 1);
    assert_eq!(Limit::shared(usize::MAX, 100, 1).per_peer, usize::MAX);
}

#[test]
fn a_proxy_has_no_share_and_counts_for_the_total() {
    let quotas = quotas();
    let proxy = quotas.peer(address("10.0.0.9"), true);
    let held = proxy.take(Resource::Calls, 10).unwrap();
    assert!(proxy.take(Resource::Calls, 1).is_err());
    assert_eq!((held.units(), quotas.used(Resource::Calls)), (10, 10));
}
