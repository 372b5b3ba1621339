//! Which of a worker's partitions are fetched. A partition is paused while the inbox is full, while too many of its
//! records lie behind one that cannot be settled, and while too much of it waits for the dead-letter topic.
//!
//! The client remembers that a partition was paused, also while the partition is another worker's. So each new
//! partition is paused or resumed explicitly, and all that are to be fetched are resumed again and again: for one that
//! is not paused this does nothing. A pause is not repeated: it would throw away what the client has fetched.

use super::offsets::Load;

/// How many records of a partition may be open before no more are fetched: each takes 32 bytes until the first of them
/// is settled, and all of them come again after a crash.
const MOST_OPEN: usize = 1 << 17;

/// In how many bytes records of all partitions may wait for the dead-letter topic, before those that have any are
/// paused.
const MOST_KEPT: usize = 16 << 20;

/// Whether a partition is fetched, as far as the client was told; `None` where it may remember anything.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow(pub(super) Option<bool>);

/// What all partitions of a worker depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) inbox_is_full: bool,
    pub(super) inbox_has_room: bool,
    pub(super) kept_bytes: usize,
}

impl Flow {
    /// A record has come. From a partition that was paused none comes, unless the client has forgotten the pause.
    pub(super) fn arrived(&mut self) {
        if self.0 == Some(false) {
            self.0 = None;
        }
    }

    /// Whether the partition is to be fetched. One that was paused has to have some room before it goes on.
    pub(super) fn wish(self, load: Load, room: Room) -> bool {
        let is_paused = self.0 == Some(false);
        let (open, kept) = if is_paused { (MOST_OPEN / 2, MOST_KEPT / 2) } else { (MOST_OPEN, MOST_KEPT) };
        let inbox = if is_paused { room.inbox_has_room } else { !room.inbox_is_full };
        inbox && load.open < open && (load.kept_bytes == 0 || room.kept_bytes < kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: Room = Room { inbox_is_full: false, inbox_has_room: true, kept_bytes: 0 };

    #[test]
    fn a_partition_waits_for_the_inbox_and_goes_on_when_there_is_some_room() {
        let load = Load { open: 0, kept_bytes: 0 };
        let full = Room { inbox_is_full: true, inbox_has_room: false, ..EMPTY };
        let between = Room { inbox_is_full: false, ..full };
        for (flow, room, wish) in [
            (None, EMPTY, true),
            (None, full, false),
            (None, between, true),
            (Some(true), between, true),
            (Some(true), full, false),
            (Some(false), between, false),
            (Some(false), EMPTY, true),
        ] {
            assert_eq!(Flow(flow).wish(load, room), wish, "{flow:?} {room:?}");
        }
    }

    #[test]
    fn only_a_partition_with_records_that_wait_for_dead_letters_waits_for_them() {
        let room = Room { kept_bytes: MOST_KEPT, ..EMPTY };
        let of = |open, kept_bytes| Load { open, kept_bytes };
        assert!(Flow(Some(true)).wish(of(9, 0), room) && Flow(Some(false)).wish(of(9, 0), room));
        assert!(!Flow(Some(true)).wish(of(9, 1), room));
        let less = Room { kept_bytes: MOST_KEPT - 1, ..EMPTY };
        assert!(Flow(Some(true)).wish(of(9, 1), less) && !Flow(Some(false)).wish(of(9, 1), less));
        assert!(!Flow(None).wish(of(MOST_OPEN, 0), EMPTY));
        assert!(!Flow(Some(false)).wish(of(MOST_OPEN - 1, 0), EMPTY));
        assert!(Flow(Some(false)).wish(of(MOST_OPEN / 2 - 1, 0), EMPTY));
    }

    #[test]
    fn a_record_from_a_paused_partition_has_it_paused_again() {
        let mut flow = Flow(Some(false));
        flow.arrived();
        assert_eq!(flow, Flow(None));
        let mut flow = Flow(Some(true));
        flow.arrived();
        assert_eq!(flow, Flow(Some(true)));
    }
}
