//! A command between its caller and the committer. The caller can withdraw a command until the committer hands it to
//! the store; from then on the caller learns how far the command has come. A withdrawn command releases its payload at
//! once, also where the committer cannot look at its queue because the store hangs.

use std::mem::replace;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::intake::Receipt;
use super::quota::HeldMemory;
use crate::error::Error;
use crate::order::Request;

/// A command on its way, and the caller who waits for its outcome.
pub(super) struct PendingCommand {
    pub(super) request: Request,
    /// Until when the caller waits for the ACK; `None`: the caller waits for the commit alone.
    pub(super) wait_until: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Receipt, Error>>,
    /// The memory that the command takes up, until it is committed, refused or withdrawn.
    pub(super) memory: HeldMemory,
}

/// The place of a command that its caller and the committer share.
pub(super) struct Slot {
    // std Mutex: held to move a value in or out, never across .await
    state: Mutex<State>,
}

enum State {
    Queued(PendingCommand),
    /// The store has it.
    Taken,
    /// It is durable, and waits for its ACK.
    Committed(Receipt),
    Withdrawn,
}

/// How far a command had come when its caller stopped waiting.
pub(super) enum Withdrawal {
    /// The store never saw it and never will.
    NothingStored,
    /// The store has it and has not answered.
    NotKnown,
    /// It is durable.
    Stored(Receipt),
}

impl Slot {
    /// A command that has been queued.
    pub(super) fn new(command: PendingCommand) -> Slot {
        Slot { state: Mutex::new(State::Queued(command)) }
    }

    /// Takes the command to hand it to the store; `None` where its caller has withdrawn it.
    pub(super) fn take(&self) -> Option<PendingCommand> {
        let mut state = self.lock();
        match replace(&mut *state, State::Taken) {
            State::Queued(command) => Some(command),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Notes that the command is durable.
    pub(super) fn commit(&self, receipt: Receipt) {
        *self.lock() = State::Committed(receipt);
    }

    /// Takes the command back where it is still queued, and answers how far it has come.
    pub(super) fn withdraw(&self) -> Withdrawal {
        let mut state = self.lock();
        match replace(&mut *state, State::Withdrawn) {
            State::Queued(_) | State::Withdrawn => Withdrawal::NothingStored,
            State::Taken => {
                *state = State::Taken;
                Withdrawal::NotKnown
            }
            State::Committed(receipt) => {
                *state = State::Committed(receipt);
                Withdrawal::Stored(receipt)
            }
        }
    }

    /// Whether the caller has withdrawn the command.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(*self.lock(), State::Withdrawn)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many commands are queued: those that have just arrived, and those that wait for an order or a key.
#[derive(Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    /// Counts one more; `false`, and nothing is counted, where there are so many already.
    pub(super) fn enter(&self, limit: usize) -> bool {
        let is_free = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_free {
            self.leave();
        }
        is_free
    }

    /// Counts one less.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are now.
    #[cfg(test)]
    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
