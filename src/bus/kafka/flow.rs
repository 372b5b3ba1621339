//! Flow control: which of a worker's partitions are fetched. A partition is paused while the inbox is full, while too
//! many of its records are open behind one that cannot be settled, and while too many of its bytes wait for the
//! dead-letter topic.
//!
//! The client remembers that a partition was paused, even while the partition is assigned to another worker. So each
//! new partition is paused or resumed explicitly, and all that are to be fetched are resumed regularly, which does
//! nothing for a partition that is not paused. A pause is not repeated: it would drop what the client has fetched.

use super::offsets::Load;

/// The most open records of a partition: each takes 32 bytes until the first of them is settled, and all of them are
/// redelivered after a crash.
const MAX_OPEN: usize = 1 << 17;

/// The most bytes of records, over all partitions, that wait for the dead-letter topic. Beyond it, partitions with such
/// records are paused.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Whether a partition is fetched, as the client was asked last; `None` where the client may be in either state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow(pub(super) Option<bool>);

/// The load that all partitions of a worker share.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedLoad {
    pub(super) inbox_is_full: bool,
    pub(super) inbox_has_room: bool,
    pub(super) kept_bytes: usize,
}

impl Flow {
    /// Takes note of a record. One from a paused partition means that the client lost the pause.
    pub(super) fn arrived(&mut self) {
        if self.0 == Some(false) {
            self.0 = None;
        }
    }

    /// Whether the partition is to be fetched. A paused partition resumes at half of the limits, so that it does not
    /// switch with every record.
    pub(super) fn should_fetch(self, load: Load, shared: SharedLoad) -> bool {
        let is_paused = self.0 == Some(false);
        let (open, kept) =
            if is_paused { (MAX_OPEN / 2, MAX_KEPT_BYTES / 2) } else { (MAX_OPEN, MAX_KEPT_BYTES) };
        let inbox = if is_paused { shared.inbox_has_room } else { !shared.inbox_is_full };
        inbox && load.open < open && (load.kept_bytes == 0 || shared.kept_bytes < kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: SharedLoad = SharedLoad { inbox_is_full: false, inbox_has_room: true, kept_bytes: 0 };

    #[test]
    fn a_partition_is_paused_when_the_inbox_is_full_and_resumes_when_it_is_half_empty() {
        let load = Load { open: 0, kept_bytes: 0 };
        let full = SharedLoad { inbox_is_full: true, inbox_has_room: false, ..EMPTY };
        let between = SharedLoad { inbox_is_full: false, ..full };
        for (flow, shared, fetch) in [
            (None, EMPTY, true),
            (None, full, false),
            (None, between, true),
            (Some(true), between, true),
            (Some(true), full, false),
            (Some(false), between, false),
            (Some(false), EMPTY, true),
        ] {
            assert_eq!(Flow(flow).should_fetch(load, shared), fetch, "{flow:?} {shared:?}");
        }
    }

    #[test]
    fn only_partitions_with_kept_records_are_paused_for_kept_bytes() {
        let shared = SharedLoad { kept_bytes: MAX_KEPT_BYTES, ..EMPTY };
        let of = |open, kept_bytes| Load { open, kept_bytes };
        assert!(
            Flow(Some(true)).should_fetch(of(9, 0), shared)
                && Flow(Some(false)).should_fetch(of(9, 0), shared)
        );
        assert!(!Flow(Some(true)).should_fetch(of(9, 1), shared));
        let less = SharedLoad { kept_bytes: MAX_KEPT_BYTES - 1, ..EMPTY };
        assert!(
            Flow(Some(true)).should_fetch(of(9, 1), less) && !Flow(Some(false)).should_fetch(of(9, 1), less)
        );
        assert!(!Flow(None).should_fetch(of(MAX_OPEN, 0), EMPTY));
        assert!(!Flow(Some(false)).should_fetch(of(MAX_OPEN - 1, 0), EMPTY));
        assert!(Flow(Some(false)).should_fetch(of(MAX_OPEN / 2 - 1, 0), EMPTY));
    }

    #[test]
    fn a_record_from_a_paused_partition_makes_its_flow_unknown() {
        let mut flow = Flow(Some(false));
        flow.arrived();
        assert_eq!(flow, Flow(None));
        let mut flow = Flow(Some(true));
        flow.arrived();
        assert_eq!(flow, Flow(Some(true)));
    }
}
