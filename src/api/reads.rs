//! Reads in turn. Each peer has turns for reads, so that a peer with many reads does not keep the others from the
//! store. A read continues in a task of its own when its caller is gone, and holds its turn until the response is
//! counted. Reads of cached copies have turns of their own: copies are served while the store does not answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::time::{timeout, timeout_at};

use super::blocking::join;
use super::caller::Caller;
use super::problem::Problem;
use super::state::ApiState;
use crate::error::Error;
use crate::order::{Order, OrderId};
use crate::service::Service;
use crate::service::turns::{Taken, Turn};

/// How long a read waits only for a cache turn before it also accepts a store turn, and how long a cache miss counts:
/// as long as a look-up may take by default.
const COPY_TIMEOUT: Duration = Duration::from_millis(30);

/// The turn of a read. It stays among the extensions of the response, until the memory of the response is counted.
#[derive(Debug, Clone)]
pub(super) struct ReadGuard(#[expect(dead_code, reason = "it is held")] Arc<Taken>);

impl ApiState {
    /// Reads from the store when it is the caller's turn.
    ///
    /// # Errors
    /// Those of the read; `store_unavailable` where it has not ended by `until`.
    pub(super) fn read<'a, T, F>(
        &'a self,
        caller: &'a Caller,
        turn: Turn,
        until: Instant,
        read: impl FnOnce(Arc<Service>) -> F + Send + 'a,
    ) -> impl Future<Output = Result<(ReadGuard, T), Problem>> + Send + 'a
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.read_in(caller.peer.turn(turn), until, read)
    }

    /// Reads from the store in the turn that the future yields.
    fn read_in<'a, T, F>(
        &'a self,
        turn: impl Future<Output = Taken> + Send + 'a,
        until: Instant,
        read: impl FnOnce(Arc<Service>) -> F + Send + 'a,
    ) -> impl Future<Output = Result<(ReadGuard, T), Problem>> + Send + 'a
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let in_turn = async move {
            let taken = turn.await;
            in_turn(taken, read(Arc::clone(&self.service))).await
        };
        async move { timeout_at(until.into(), in_turn).await.unwrap_or_else(|_| Err(Error::Unavailable.into())) }
    }

    /// Reads an order, from the cache where it holds a copy. A read that gets a store turn first, or long after its
    /// cache miss, looks into the cache once more before it reads the store.
    ///
    /// # Errors
    /// As [`ApiState::read`].
    pub(super) async fn read_order(
        &self,
        caller: &Caller,
        order_id: OrderId,
        until: Instant,
    ) -> Result<(ReadGuard, Order), Problem> {
        let mut missed = None;
        let mut turn = None;
        let mut order = pin!(caller.peer.turn(Turn::Order));
        if self.service.has_cache() {
            let copy = pin!(caller.peer.turn(Turn::Copy));
            let first = first_turn(copy, order.as_mut());
            match timeout_at(until.into(), first).await.map_err(|_| Error::Unavailable)? {
                Either::Left(copy) => {
                    let service = Arc::clone(&self.service);
                    let look_up = in_turn(copy, async move { Ok(service.cached(order_id).await) });
                    match timeout_at(until.into(), look_up).await.map_err(|_| Error::Unavailable)?? {
                        (guard, Ok(order)) => return Ok((guard, order)),
                        (_, Err(none)) => missed = Some((none, Instant::now())),
                    }
                }
                Either::Right(taken) => turn = Some(taken),
            }
        }
        let get = move |service: Arc<Service>| async move {
            let missed = match missed {
                Some((missed, at)) if at.elapsed() < COPY_TIMEOUT => missed,
                _ => match service.cached(order_id).await {
                    Ok(order) => return Ok(order),
                    Err(missed) => missed,
                },
            };
            service.get(order_id, missed).await
        };
        let turn = async move {
            match turn {
                Some(taken) => taken,
                None => order.await,
            }
        };
        self.read_in(turn, until, get).await
    }
}

/// A cache turn, or, where that takes long, the first turn of either kind: a full queue for the cache must not keep a
/// read from the store, nor a store that hangs keep it from the cache.
async fn first_turn(
    mut copy: Pin<&mut impl Future<Output = Taken>>,
    order: Pin<&mut impl Future<Output = Taken>>,
) -> Either<Taken, Taken> {
    match timeout(COPY_TIMEOUT, copy.as_mut()).await {
        Ok(copy) => Either::Left(copy),
        Err(_) => match select(copy, order).await {
            Either::Left((copy, _)) => Either::Left(copy),
            Either::Right((order, _)) => Either::Right(order),
        },
    }
}

/// Reads in a task of its own. The store continues a read whose caller is gone, so the turn lasts until the read ends.
async fn in_turn<T: Send + 'static>(
    taken: Taken,
    read: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<(ReadGuard, T), Problem> {
    let (taken, outcome) = join(tokio::spawn(async move { (taken, read.await) })).await?;
    Ok((ReadGuard(Arc::new(taken)), outcome?))
}
