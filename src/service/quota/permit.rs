//! Permits: a [`Permit`] is held for as long as its resource is in use: bytes in memory, a connection, a call, a
//! stream. Dropping it returns its units. Taking units never waits: where the peer's share or the total is used up, it
//! fails at once and counts nothing. The counts are atomic numbers without a lock. Two takers that meet at the limit
//! may both be refused, but must never both be accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::limits::Resource;
use super::peers::Peer;
use crate::error::Error;
use crate::service::committer::RETRY_AFTER;

/// Units of a resource that a peer holds.
#[derive(Debug)]
pub struct Permit {
    peer: Arc<Peer>,
    resource: Resource,
    units: usize,
}

impl Permit {
    /// How many units it stands for.
    #[must_use]
    pub fn units(&self) -> usize {
        self.units
    }

    /// The peer that holds it.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Takes more units.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where there are not enough; the permit stays as it is.
    pub fn grow(&mut self, units: usize) -> Result<(), Error> {
        let (at, limit) = (self.resource as usize, self.peer.quotas().limit(self.resource));
        let share = if self.peer.speaks_for_others() { usize::MAX } else { limit.per_peer };
        add(&self.peer.used[at], units, share)?;
        if let Err(error) = add(&self.peer.quotas().used[at], units, limit.total) {
            self.peer.used[at].fetch_sub(units, Ordering::Relaxed);
            return Err(error);
        }
        self.units += units;
        Ok(())
    }

    /// Returns units, so that at most this many are left.
    pub fn shrink_to(&mut self, units: usize) {
        let returned = self.units.saturating_sub(units);
        if returned == 0 {
            return;
        }
        let at = self.resource as usize;
        self.peer.used[at].fetch_sub(returned, Ordering::Relaxed);
        self.peer.quotas().used[at].fetch_sub(returned, Ordering::Relaxed);
        self.units -= returned;
    }

    /// Takes over the units of another permit of the same peer and resource.
    pub fn merge(&mut self, mut other: Permit) {
        debug_assert!(Arc::ptr_eq(&self.peer, &other.peer) && self.resource == other.resource);
        self.units += std::mem::take(&mut other.units);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// The memory permit of a command: its own, or one that it shares with other attempts of the same request.
#[derive(Debug, Default)]
pub enum HeldMemory {
    /// The memory is not counted.
    #[default]
    Nothing,
    /// A permit of its own.
    Own(Permit),
    /// A permit that other commands hold, too.
    Shared(Arc<Permit>),
}

impl HeldMemory {
    /// The peer that holds it; `None` where the memory is not counted.
    #[must_use]
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            HeldMemory::Nothing => None,
            HeldMemory::Own(permit) => Some(permit.peer()),
            HeldMemory::Shared(permit) => Some(permit.peer()),
        }
    }
}

impl From<Permit> for HeldMemory {
    fn from(permit: Permit) -> HeldMemory {
        HeldMemory::Own(permit)
    }
}

impl From<Option<&Arc<Permit>>> for HeldMemory {
    fn from(permit: Option<&Arc<Permit>>) -> HeldMemory {
        permit.map_or(HeldMemory::Nothing, |permit| HeldMemory::Shared(Arc::clone(permit)))
    }
}

impl Peer {
    /// Takes units of a resource until the permit is dropped.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where all peers together, or this one, would hold more than the limit.
    pub fn take(self: &Arc<Peer>, resource: Resource, units: usize) -> Result<Permit, Error> {
        let mut permit = Permit { peer: Arc::clone(self), resource, units: 0 };
        permit.grow(units)?;
        Ok(permit)
    }
}

/// Adds to a count unless it would exceed the limit. It adds first and compares then: two calls that meet at the limit
/// may both be refused, but are never both accepted.
fn add(used: &AtomicUsize, units: usize, limit: usize) -> Result<(), Error> {
    let before = used.fetch_add(units, Ordering::Relaxed);
    if before.saturating_add(units) <= limit {
        return Ok(());
    }
    used.fetch_sub(units, Ordering::Relaxed);
    Err(Error::Overloaded { retry_after: RETRY_AFTER })
}
