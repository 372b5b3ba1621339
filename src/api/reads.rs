//! Reads in turn. Each peer has turns for reads, so that one that asks for much does not keep the others from the
//! store. A read goes on in a task of its own when its caller is gone, and holds its turn until the response is
//! counted. A cached copy has a turn of its own kind: copies are served while the store does not answer.

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

/// How long to wait for the turn of a copy alone, before the turn of the store will do as well, and for how long the
/// outcome of a look-up counts: as long as a look-up may take by default.
const COPY_PATIENCE: Duration = Duration::from_millis(30);

/// The turn of a read. It is kept among the extensions of the response, until the memory of the response is counted.
#[derive(Debug, Clone)]
pub(super) struct ReadGuard(#[expect(dead_code, reason = "it is held")] Arc<Taken>);

impl ApiState {
    /// Reads from the store when it is the caller's turn.
    ///
    /// # Errors
    /// Those of the read; `store_unavailable` where it is not done at `until`.
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

    /// The same in a turn that is taken in another way.
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

    /// Reads an order, from the cache where it is there. A read that gets the store's turn first, or long after it
    /// missed in the cache, looks into the cache before it asks the store.
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
                Some((missed, at)) if at.elapsed() < COPY_PATIENCE => missed,
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

/// The turn to read a copy. Where that does not come soon, the turn of the store will do as well: many reads before the
/// cache do not keep one from the store, nor does a store that hangs keep one from the cache.
async fn first_turn(
    mut copy: Pin<&mut impl Future<Output = Taken>>,
    order: Pin<&mut impl Future<Output = Taken>>,
) -> Either<Taken, Taken> {
    match timeout(COPY_PATIENCE, copy.as_mut()).await {
        Ok(copy) => Either::Left(copy),
        Err(_) => match select(copy, order).await {
            Either::Left((copy, _)) => Either::Left(copy),
            Either::Right((order, _)) => Either::Right(order),
        },
    }
}

/// Reads in a task of its own. A caller that goes away ends nothing in the store, so the turn lasts until the read is
/// done or has had its time.
async fn in_turn<T: Send + 'static>(
    taken: Taken,
    read: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<(ReadGuard, T), Problem> {
    let (taken, outcome) = join(tokio::spawn(async move { (taken, read.await) })).await?;
    Ok((ReadGuard(Arc::new(taken)), outcome?))
}
