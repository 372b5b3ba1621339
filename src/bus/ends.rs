//! The progress of the workers: where the topic of the events ended at one time, and in which partitions the workers
//! have not consumed all records before that end. The hash of an order's id names the partition of its events. It
//! relies on the partitioner of Kafka's Java client, which all writers of the topic must use.

use std::collections::{BTreeMap, BTreeSet};

use crate::order::OrderId;

/// The seed of the hash, as Kafka's Java client has it (`org.apache.kafka.common.utils.Utils.murmur2`).
const SEED: u32 = 0x9747_b28c;

/// The multiplier of `MurmurHash2`.
const M: u32 = 0x5bd1_e995;

/// Where each partition of the events' topic ended at one time: its number, and the offset of the next record; `None`
/// where the partition had no leader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends(pub(in crate::bus) BTreeMap<i32, Option<i64>>);

/// The partitions in which the workers have not consumed all records before some [`Ends`], as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    partitions: BTreeSet<i32>,
    /// How many partitions the topic had then, and has now.
    counts: BTreeSet<usize>,
}

impl Ends {
    /// The partitions whose ends were not known.
    #[must_use]
    pub fn unknown(&self) -> Behind {
        self.select(self.0.len(), |_, end| end.is_none())
    }

    /// The partitions for which `is_behind(number, end)` is true, in a topic that has `count` partitions now.
    pub(in crate::bus) fn behind(&self, count: usize, is_behind: impl Fn(i32, i64) -> bool) -> Behind {
        self.select(count, |partition, end| end.is_some_and(|end| is_behind(partition, end)))
    }

    fn select(&self, count: usize, is_selected: impl Fn(i32, Option<i64>) -> bool) -> Behind {
        let selected = self.0.iter().filter(|(partition, end)| is_selected(**partition, **end));
        Behind {
            partitions: selected.map(|(partition, _)| *partition).collect(),
            counts: [self.0.len(), count].into(),
        }
    }
}

impl Behind {
    /// These partitions and the others together.
    #[must_use]
    pub fn and(mut self, others: Behind) -> Behind {
        self.partitions.extend(others.partitions);
        self.counts.extend(others.counts);
        self
    }

    /// Whether the workers have consumed everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Whether an event of this order may lie there. Where partitions were added meanwhile, both the old and the new
    /// partition of the order count.
    #[must_use]
    pub fn may_hold(&self, order_id: OrderId) -> bool {
        let hash = murmur2(order_id.to_string().as_bytes()) & 0x7fff_ffff;
        !self.is_empty()
            && self.counts.iter().any(|count| {
                let partition = u32::try_from(*count).ok().and_then(|count| hash.checked_rem(count));
                partition.and_then(|it| i32::try_from(it).ok()).is_none_or(|it| self.partitions.contains(&it))
            })
    }
}

/// `MurmurHash2` of 32 bits, by Austin Appleby, with Kafka's seed: the default of the Java client for records with
/// keys, and librdkafka's `murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    // The length only enters modulo 2^32.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by Kafka's Utils.murmur2, as its own UtilsTest has them.
    #[test]
    fn the_hash_is_kafkas() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn only_orders_of_the_partitions_that_are_behind_may_be_there() {
        let ends = Ends((0..4).map(|partition| (partition, Some(10))).collect());
        assert!(ends.behind(4, |_, _| false).is_empty());
        let each: Vec<Behind> = (0..4).map(|at| ends.behind(4, |partition, _| partition == at)).collect();
        for _ in 0..100 {
            let id = OrderId::generate();
            assert_eq!(each.iter().filter(|behind| behind.may_hold(id)).count(), 1);
            assert!(ends.behind(5, |_, _| true).may_hold(id));
            assert!(!ends.unknown().may_hold(id));
        }
        let partial = Ends((0..4).map(|partition| (partition, (partition > 0).then_some(10))).collect());
        assert_eq!(partial.unknown(), each[0]);
    }
}
