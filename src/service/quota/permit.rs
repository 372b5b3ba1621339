//! Permits: a [`Permit`] is held for as long as the thing that it stands for exists: bytes in memory, a connection, a
//! call, a stream. Dropping it gives its units back.

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

    /// Gives units back, so that no more than these are left.
    pub fn shrink_to(&mut self, units: usize) {
        let back = self.units.saturating_sub(units);
        if back == 0 {
            return;
        }
        let at = self.resource as usize;
        self.peer.used[at].fetch_sub(back, Ordering::Relaxed);
        self.peer.quotas().used[at].fetch_sub(back, Ordering::Relaxed);
        self.units -= back;
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

/// What one command holds: a permit of its own, or one that it shares with other tries of the same request.
#[derive(Debug, Default)]
pub enum HeldMemory {
    /// Nothing that is counted.
    #[default]
    Nothing,
    /// A permit of its own.
    Own(Permit),
    /// One that others hold, too.
    Shared(Arc<Permit>),
}

impl HeldMemory {
    /// The peer that holds it; `None` where nothing is counted.
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

/// Adds to a count unless it would exceed the limit. Added first and looked at then: two that meet at the limit may
/// both be refused, and never both be let in.
fn add(used: &AtomicUsize, units: usize, limit: usize) -> Result<(), Error> {
    let before = used.fetch_add(units, Ordering::Relaxed);
    if before.saturating_add(units) <= limit {
        return Ok(());
    }
    used.fetch_sub(units, Ordering::Relaxed);
    Err(Error::Overloaded { retry_after: RETRY_AFTER })
}
