//! The reasons why requests were refused. The statements of commands do not return a reason, so the orders and keys of
//! refused requests are looked up afterwards. They may have changed since; then there is no reason, and the caller
//! tries the request again.

use std::collections::HashMap;

use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::command_sql::{FIRST_VERSION, LAST_VERSION};
use crate::order::{Command, CommandRequest, OrderId, Status, UserId, Version};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{order_id, status, user_id, uuid};
use crate::store::{Accepted, Refusal, ReplayedOutcome};

/// The statements that look up orders and keys.
pub(super) struct Refusals {
    orders: Statement,
    keys: Statement,
}

/// The orders and keys of refused requests.
#[derive(Default)]
pub(super) struct Known {
    orders: HashMap<OrderId, Found>,
    /// By the digest of the key.
    keys: HashMap<[u8; 16], Used>,
}

/// The state of an order whose command was refused.
#[derive(Clone, Copy)]
struct Found {
    user_id: UserId,
    version: Version,
    /// Its status; `None` where it is unknown.
    status: Option<Status>,
    /// Whether it has a time of deletion.
    has_deletion_time: bool,
}

/// What is stored with a key: the digest of the content, and the outcome of the request.
type Used = ([u8; 16], ReplayedOutcome);

impl Refusals {
    pub(in crate::store::postgres) async fn prepare(
        client: &Client,
    ) -> Result<Refusals, tokio_postgres::Error> {
        let (orders, keys) = tokio::try_join!(
            client.prepare(
                "SELECT order_id, user_id, version, status, deleted_at IS NOT NULL FROM orders
                  WHERE order_id = ANY($1)"
            ),
            client.prepare(
                "SELECT digest, content, order_id, version, status FROM orders_keys WHERE digest = ANY($1)"
            ),
        )?;
        Ok(Refusals { orders, keys })
    }

    /// Looks up the orders and keys of refused requests.
    pub(in crate::store::postgres) async fn look_up(
        &self,
        client: &Client,
        refused: &[&CommandRequest],
    ) -> Result<Known, Failure> {
        let ids: Vec<Uuid> = refused.iter().map(|request| uuid(request.command.order_id())).collect();
        let digests: Vec<Uuid> =
            refused.iter().filter_map(|request| Some(Uuid::from_bytes(request.key?.digest))).collect();
        let keys = async {
            match digests.is_empty() {
                true => Ok(Vec::new()),
                false => client.query(&self.keys, &[&digests]).await,
            }
        };
        let orders = async { client.query(&self.orders, &[&ids]).await };
        let (orders, keys) = tokio::try_join!(orders, keys)?;
        Ok(Known {
            orders: orders.iter().map(known_order).collect::<Result<_, Failure>>()?,
            keys: keys.iter().map(known_key).collect::<Result<_, Failure>>()?,
        })
    }
}

impl Found {
    /// Whether the order was deleted, even if another program has written an unknown status since.
    fn was_deleted(self) -> bool {
        self.status.map_or(self.has_deletion_time, |status| status == Status::Deleted)
    }
}

impl Known {
    /// The answer to a refused request; `None` where the reason is gone.
    pub(in crate::store::postgres) fn answer(
        &self,
        request: &CommandRequest,
    ) -> Option<Result<Accepted, Refusal>> {
        if let Some((content, earlier)) = request.key.and_then(|key| self.keys.get(&key.digest)) {
            let is_same = request.key.is_some_and(|key| key.content == *content);
            return Some(if is_same { Ok(Accepted::Replayed(*earlier)) } else { Err(Refusal::KeyReused) });
        }
        let found = self.orders.get(&request.command.order_id()).copied();
        let (named, if_version) = match request.command {
            Command::Create { .. } => {
                let found = found?;
                let (user_id, version, deleted) = (found.user_id, found.version, found.was_deleted());
                return Some(Err(Refusal::Exists { user_id, version, deleted }));
            }
            Command::Update { user_id, if_version, .. } | Command::Delete { user_id, if_version, .. } => {
                (user_id, if_version)
            }
        };
        let refusal = match found {
            None => Refusal::NotFound,
            Some(found) if named.is_some_and(|named| named != found.user_id) => Refusal::NotFound,
            Some(Found { status: Some(Status::Deleted), .. }) => Refusal::Deleted,
            Some(Found { version, .. }) if !(FIRST_VERSION..=LAST_VERSION).contains(&version) => {
                Refusal::Damaged(format!("its version {version} is out of range"))
            }
            // An order with an unknown status can still be deleted.
            Some(found) if found.was_deleted() && matches!(request.command, Command::Update { .. }) => {
                Refusal::Deleted
            }
            Some(Found { version: current, .. }) if if_version.is_some_and(|version| version != current) => {
                Refusal::Changed { current }
            }
            Some(_) => return None,
        };
        Some(Err(refusal))
    }
}

fn known_order(row: &Row) -> Result<(OrderId, Found), Failure> {
    let found = Found {
        user_id: user_id(row.try_get(1)?),
        version: row.try_get(2)?,
        status: Status::parse(row.try_get(3)?),
        has_deletion_time: row.try_get(4)?,
    };
    Ok((order_id(row.try_get(0)?), found))
}

fn known_key(row: &Row) -> Result<([u8; 16], Used), Failure> {
    let id = order_id(row.try_get(2)?);
    let earlier = ReplayedOutcome { order_id: id, version: row.try_get(3)?, status: status(row, 4, id)? };
    let digest = |column| Ok::<_, Failure>(row.try_get::<_, Uuid>(column)?.into_bytes());
    Ok((digest(0)?, (digest(1)?, earlier)))
}
