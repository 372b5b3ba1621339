//! A command between its caller and the committer. The caller can withdraw a command until the committer hands it to
//! the store; from then on the caller is shown the command's progress. A withdrawn command must release its payload at
//! once, also while the committer does not read its queue because the store hangs.

use std::mem::replace;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::Error;
use crate::order::CommandRequest;
use crate::service::quota::HeldMemory;
use crate::service::receipt::CommandReceipt;

/// A command on its way, and the caller who waits for its outcome.
pub(in crate::service) struct PendingCommand {
    pub(in crate::service) request: CommandRequest,
    /// Until when the caller waits for the ACK; `None`: the caller waits for the commit alone.
    pub(in crate::service) wait_until: Option<Instant>,
    pub(in crate::service) reply: oneshot::Sender<Result<CommandReceipt, Error>>,
    /// The memory that the command holds, until it is committed, refused or withdrawn.
    pub(in crate::service) memory: HeldMemory,
}

/// Holds a command for its caller and the committer: the one that takes it first has it.
pub(in crate::service) struct Slot {
    // std Mutex: held to move a value in or out, never across .await
    state: Mutex<State>,
}

enum State {
    Queued(PendingCommand),
    /// The committer has handed it to the store.
    Taken,
    /// It is durable, and waits for its ACK.
    Committed(CommandReceipt),
    Withdrawn,
}

/// The progress of a command when its caller stopped waiting.
pub(in crate::service) enum Withdrawal {
    /// The command has not been handed to the store, and will not be.
    NothingStored,
    /// The command was handed to the store, which has not answered.
    NotKnown,
    /// It is durable.
    Stored(CommandReceipt),
}

impl Slot {
    /// A command that has been queued.
    pub(in crate::service) fn new(command: PendingCommand) -> Slot {
        Slot { state: Mutex::new(State::Queued(command)) }
    }

    /// Takes the command to hand it to the store; `None` where its caller has withdrawn it.
    pub(in crate::service) fn take(&self) -> Option<PendingCommand> {
        let mut state = self.lock();
        match replace(&mut *state, State::Taken) {
            State::Queued(command) => Some(command),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Records that the command is durable.
    pub(in crate::service) fn commit(&self, receipt: CommandReceipt) {
        *self.lock() = State::Committed(receipt);
    }

    /// Takes the command back where it is still queued, and answers its progress.
    pub(in crate::service) fn withdraw(&self) -> Withdrawal {
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
    pub(in crate::service) fn is_withdrawn(&self) -> bool {
        matches!(*self.lock(), State::Withdrawn)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
