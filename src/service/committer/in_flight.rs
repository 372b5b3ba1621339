//! In-flight orders and keys: the orders and idempotency keys of a batch, from its forming to its commit. A command for
//! one of them waits in a queue of that order or key, outside of every batch, so that an order with many commands does
//! not delay others. A queue is first in, first out, and bounded.
//!
//! A command takes its order first and its key second. A command that holds a key therefore holds all that it needs,
//! and two commands never wait for each other (no deadlock).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use super::load::{Load, MOST_QUEUED, RETRY_AFTER};
use super::pending::Slot;
use crate::error::Error;
use crate::order::{CommandRequest, OrderId};
use crate::service::quota::Permit;

/// How many commands wait for one order, or for one key. Two batches of 1,000 commands for one order fit.
const QUEUE: usize = 2_048;

/// How many commands wait for orders and keys together: three quarters of all that may be queued. The rest is for
/// commands that need not wait. By default, one peer's share of the queue is less.
const MOST_WAITING: usize = MOST_QUEUED / 4 * 3;

/// A key as the stores keep it.
type Digest = [u8; 16];

/// A command in a queue of the committer.
pub(super) struct Queued {
    pub(super) held: Held,
    /// What the command counts towards the size of a batch.
    pub(super) bytes: usize,
    pub(super) slot: Arc<Slot>,
    /// Counts the command towards its peer's share of the queue.
    pub(super) _permit: Option<Permit>,
}

/// The order and the key that a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    order_id: OrderId,
    key: Option<Digest>,
}

impl Held {
    pub(super) fn of(request: &CommandRequest) -> Held {
        Held { order_id: request.command.order_id(), key: request.key.map(|key| key.digest) }
    }
}

/// Orders and keys in flight, and the commands that wait for them.
pub(super) struct InFlight {
    orders: HashMap<OrderId, VecDeque<Queued>>,
    keys: HashMap<Digest, VecDeque<Queued>>,
    /// Commands that hold what they need, for the next batch.
    ready: VecDeque<Queued>,
    /// How many wait in the queues of orders and keys.
    waiting: usize,
    load: Arc<Load>,
}

impl InFlight {
    pub(super) fn new(load: Arc<Load>) -> InFlight {
        InFlight { orders: HashMap::new(), keys: HashMap::new(), ready: VecDeque::new(), waiting: 0, load }
    }

    /// Takes in a command that has arrived. It becomes ready, waits, or is turned away.
    pub(super) fn admit(&mut self, command: Queued) {
        let order_id = command.held.order_id;
        if let Some(queue) = queue_if_in_flight(&mut self.orders, order_id) {
            wait(queue, command, &self.load, &mut self.waiting);
        } else if !self.take_key(command) {
            self.release_order(order_id);
        }
    }

    /// The next command that can be committed. Its caller may have withdrawn it.
    pub(super) fn next(&mut self) -> Option<Queued> {
        self.ready.pop_front()
    }

    /// How many commands can be committed.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Releases the order and the key of a command. The next commands that waited for them become ready.
    pub(super) fn release(&mut self, held: Held) {
        if let Some(key) = held.key {
            self.release_key(key);
        }
        self.release_order(held.order_id);
    }

    /// Has a command that holds its order take its key. `false` where the command was turned away.
    fn take_key(&mut self, command: Queued) -> bool {
        match command.held.key.and_then(|key| queue_if_in_flight(&mut self.keys, key)) {
            Some(queue) => wait(queue, command, &self.load, &mut self.waiting),
            None => {
                self.ready.push_back(command);
                true
            }
        }
    }

    fn release_order(&mut self, order_id: OrderId) {
        while let Some(command) = next(&mut self.orders, order_id) {
            self.waiting -= 1;
            if command.slot.is_withdrawn() {
                self.load.leave();
            } else if self.take_key(command) {
                return;
            }
        }
    }

    fn release_key(&mut self, key: Digest) {
        while let Some(command) = next(&mut self.keys, key) {
            self.waiting -= 1;
            if !command.slot.is_withdrawn() {
                return self.ready.push_back(command);
            }
            self.load.leave();
            self.release_order(command.held.order_id);
        }
    }
}

/// The queue of an order or key in flight. `None` where it was free; it is in flight from now on.
fn queue_if_in_flight<K: Eq + Hash>(
    queues: &mut HashMap<K, VecDeque<Queued>>,
    of: K,
) -> Option<&mut VecDeque<Queued>> {
    match queues.entry(of) {
        Entry::Occupied(queue) => Some(queue.into_mut()),
        Entry::Vacant(free) => {
            // An empty queue allocates nothing.
            free.insert(VecDeque::new());
            None
        }
    }
}

/// The first command of a queue. Where there is none, the order or key is free from now on.
fn next<K: Eq + Hash>(queues: &mut HashMap<K, VecDeque<Queued>>, of: K) -> Option<Queued> {
    match queues.entry(of) {
        Entry::Occupied(mut queue) => queue.get_mut().pop_front().or_else(|| {
            queue.remove();
            None
        }),
        Entry::Vacant(_) => None,
    }
}

/// Puts a command into a queue. `false` where the queue is full and the command was turned away.
fn wait(queue: &mut VecDeque<Queued>, command: Queued, load: &Load, waiting: &mut usize) -> bool {
    if queue.len() < QUEUE && *waiting < MOST_WAITING {
        *waiting += 1;
        queue.push_back(command);
        return true;
    }
    load.leave();
    if let Some(command) = command.slot.take() {
        // The caller may have gone.
        let _ = command.reply.send(Err(Error::Overloaded { retry_after: RETRY_AFTER }));
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::order::{Command, Key};
    use crate::service::CommandReceipt;
    use crate::service::committer::pending::PendingCommand;
    use crate::service::quota::HeldMemory;

    type Answer = oneshot::Receiver<Result<CommandReceipt, Error>>;

    struct Bench {
        in_flight: InFlight,
        load: Arc<Load>,
        answers: Vec<Answer>,
    }

    impl Bench {
        fn new() -> Bench {
            let load = Arc::new(Load::default());
            Bench { in_flight: InFlight::new(Arc::clone(&load)), load, answers: Vec::new() }
        }

        /// Admits a command for an order, under a key where one is given.
        fn arrives(&mut self, order_id: OrderId, key: Option<u8>) -> Arc<Slot> {
            let command = Command::Delete { order_id, user_id: None, if_version: None };
            let key = key.map(|key| Key { digest: [key; 16], content: [0; 16] });
            let request = CommandRequest { command, key };
            let (reply, answer) = oneshot::channel();
            self.answers.push(answer);
            assert!(self.load.enter(usize::MAX));
            let held = Held::of(&request);
            let slot = Arc::new(Slot::new(PendingCommand {
                request,
                wait_until: None,
                reply,
                memory: HeldMemory::Nothing,
            }));
            self.in_flight.admit(Queued { held, bytes: 1, slot: Arc::clone(&slot), _permit: None });
            slot
        }

        /// All that is ready, taken for a batch.
        fn batch(&mut self) -> Vec<Held> {
            let mut batch = Vec::new();
            while let Some(command) = self.in_flight.next() {
                self.load.leave();
                match command.slot.take() {
                    Some(_) => batch.push(command.held),
                    None => self.in_flight.release(command.held),
                }
            }
            batch
        }

        fn commits(&mut self, batch: Vec<Held>) {
            batch.into_iter().for_each(|held| self.in_flight.release(held));
        }

        /// Asserts that nothing is held and nothing waits any more.
        fn is_idle(&self) {
            assert!(self.in_flight.orders.is_empty() && self.in_flight.keys.is_empty());
            assert!(self.in_flight.ready() == 0);
            assert_eq!(self.load.now(), 0);
        }
    }

    fn orders<const N: usize>() -> [OrderId; N] {
        std::array::from_fn(|_| OrderId::generate())
    }

    #[test]
    fn commands_of_one_order_are_committed_one_by_one_in_their_order() {
        let ([a, b], mut bench) = (orders(), Bench::new());
        for key in [1, 2, 3] {
            bench.arrives(a, Some(key));
        }
        bench.arrives(b, None);
        let first = bench.batch();
        assert_eq!(first.iter().map(|held| held.order_id).collect::<Vec<_>>(), [a, b]);
        bench.commits(first);
        for key in [2, 3] {
            let batch = bench.batch();
            assert_eq!(batch, [Held { order_id: a, key: Some([key; 16]) }]);
            bench.commits(batch);
        }
        bench.is_idle();
    }

    #[test]
    fn a_command_that_needs_a_key_in_flight_keeps_its_place_in_the_queue_of_its_order() {
        let ([a, b], mut bench) = (orders(), Bench::new());
        bench.arrives(a, Some(1));
        bench.arrives(b, Some(1));
        bench.arrives(b, None);
        let first = bench.batch();
        assert_eq!(first, [Held { order_id: a, key: Some([1; 16]) }]);
        bench.commits(first);
        for key in [Some([1; 16]), None] {
            let batch = bench.batch();
            assert_eq!(batch, [Held { order_id: b, key }]);
            bench.commits(batch);
        }
        bench.is_idle();
    }

    #[test]
    fn commands_that_need_the_orders_and_keys_of_each_other_do_not_deadlock() {
        let ([a, b], mut bench) = (orders(), Bench::new());
        for (order_id, key) in [(a, 1), (b, 2), (a, 2), (b, 1), (a, 1), (b, 2)] {
            bench.arrives(order_id, Some(key));
        }
        let mut committed = 0;
        loop {
            let batch = bench.batch();
            if batch.is_empty() {
                break;
            }
            committed += batch.len();
            bench.commits(batch);
        }
        assert_eq!(committed, 6);
        bench.is_idle();
    }

    #[test]
    fn a_withdrawn_command_releases_its_order_and_key() {
        let ([a, b], mut bench) = (orders(), Bench::new());
        bench.arrives(a, Some(1));
        let waits_for_the_key = bench.arrives(b, Some(1));
        bench.arrives(b, None);
        let waits_for_the_order = bench.arrives(a, None);
        let first = bench.batch();
        for slot in [waits_for_the_key, waits_for_the_order] {
            slot.withdraw();
        }
        bench.commits(first);
        let ready = bench.arrives(a, Some(9));
        ready.withdraw();
        let last = bench.batch();
        assert_eq!(last, [Held { order_id: b, key: None }]);
        bench.commits(last);
        bench.is_idle();
    }

    #[test]
    fn a_full_queue_turns_commands_away() {
        let ([a, b], mut bench) = (orders(), Bench::new());
        for _ in 0..=QUEUE {
            bench.arrives(a, None);
        }
        bench.arrives(a, None);
        assert_eq!(bench.load.now(), QUEUE + 1);
        let refused = bench.answers.last_mut().unwrap().try_recv().unwrap();
        assert_eq!(refused, Err(Error::Overloaded { retry_after: RETRY_AFTER }));
        // The same for a key; the order of the command that was turned away is free again.
        bench.arrives(b, Some(1));
        for _ in 0..QUEUE {
            bench.arrives(OrderId::generate(), Some(1));
        }
        let [turned_away] = orders();
        bench.arrives(turned_away, Some(1));
        assert!(bench.answers.last_mut().unwrap().try_recv().unwrap().is_err());
        assert!(!bench.in_flight.orders.contains_key(&turned_away));
    }
}
