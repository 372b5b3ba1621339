//! Two processes on one Postgres whose batches use the same rows and keys in opposite orders: one waits for the rows of
//! the other, and they never deadlock. The tests use servers of their own, because a server counts its deadlocks.

use std::sync::Arc;

use orderstream::order::{Command, CommandRequest, KeyText, OrderId, Status, UserId};
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Completed, Completion, Creation, Maintenance, Orders, Precondition};
use tokio_postgres::{Client, NoTls};

use crate::harness::schema::options;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;
use crate::store::conformance::{creation, deletion, done, failed, payload, update};

/// How many pairs of batches each test runs.
const ROUNDS: usize = 20;

/// How many orders each half of a batch has: enough for both processes to work at the same time.
const HALF: usize = 200;

/// The application name of the stores' connections.
const NAME: &str = "orderstream-test-of-locks";

/// The stores of two processes in one database, and a connection that observes them.
struct Two {
    stores: [Arc<PostgresStore>; 2],
    client: Client,
    _server: Private,
}

impl Two {
    async fn start() -> Two {
        let server = Private::new();
        let dsn = server.up(Server::Postgres);
        let (client, connection) =
            tokio_postgres::connect(&dsn, NoTls).await.expect("a Postgres that listens");
        tokio::spawn(connection);
        let dsn = format!("{dsn}?application_name={NAME}");
        let open = || PostgresStore::open(&Options { dsn: dsn.clone(), ..options() }).expect("a DSN");
        let stores = [Arc::new(open()), Arc::new(open())];
        stores[0].migrate().await.expect("an empty database can be migrated");
        Two { stores, client, _server: server }
    }

    /// Applies a batch in each store at the same time.
    async fn apply(&self, batches: [Vec<CommandRequest>; 2]) {
        let [first, second] = batches;
        let (first, second) =
            tokio::join!(self.stores[0].apply(first.into()), self.stores[1].apply(second.into()));
        first.expect("the first batch is applied");
        second.expect("the second batch is applied");
    }

    /// Records a batch in each store at the same time, and answers the results.
    async fn complete(&self, batches: [Vec<Completion>; 2]) -> [Vec<Completed>; 2] {
        let [first, second] = batches;
        let (first, second) =
            tokio::join!(self.stores[0].complete(first.into()), self.stores[1].complete(second.into()));
        [first.expect("the first batch is recorded"), second.expect("the second batch is recorded")]
    }

    /// Creates orders, and answers the lower half of their ids and the upper one.
    async fn orders(&self) -> [Vec<OrderId>; 2] {
        let mut ids = ids();
        let batch: Vec<CommandRequest> = ids.iter().map(|id| create(*id).into()).collect();
        self.stores[0].apply(batch.into()).await.expect("orders are created");
        let upper = ids.split_off(HALF);
        [ids, upper]
    }

    /// How many deadlocks the server has counted. A connection reports its own when it ends, at the latest.
    async fn deadlocks(self) -> i64 {
        self.stores[0].close().await;
        self.stores[1].close().await;
        let sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = $1 LIMIT 1";
        until("the connections to end", async || {
            self.client.query_opt(sessions, &[&NAME]).await.expect("the sessions").is_none().then_some(())
        })
        .await;
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        self.client.query_one(sql, &[]).await.expect("statistics").get(0)
    }
}

/// New ids, in ascending order.
fn ids() -> Vec<OrderId> {
    let mut ids: Vec<OrderId> = (0..2 * HALF).map(|_| OrderId::generate()).collect();
    ids.sort_unstable();
    ids
}

/// The user of all orders, so that all keys are in one set.
fn user() -> UserId {
    UserId::from_bytes([7; 16])
}

fn create(order_id: OrderId) -> Command {
    Command::Create { order_id, user_id: user(), payload: payload("{}") }
}

/// A batch that updates some orders and deletes others.
fn changes(updated: &[OrderId], deleted: &[OrderId]) -> Vec<CommandRequest> {
    let updates = updated.iter().map(|id| update(*id, "[]").into());
    updates.chain(deleted.iter().map(|id| deletion(*id).into())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_opposite_updates_and_deletions_never_deadlock() {
    let two = Two::start().await;
    for _ in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        two.apply([changes(&upper, &lower), changes(&lower, &upper)]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_that_differ_in_their_outcomes_never_deadlock() {
    let two = Two::start().await;
    let batch = |finished: &[OrderId], others: &[OrderId]| -> Vec<Completion> {
        let finished = finished.iter().map(|id| done(*id, 1, "1"));
        finished.chain(others.iter().map(|id| failed(*id, 1, "no"))).collect()
    };
    for _ in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        let outcomes = two.complete([batch(&upper, &lower), batch(&lower, &upper)]).await.concat();
        let applied = outcomes.iter().filter(|outcome| **outcome == Completed::Applied).count();
        assert_eq!(applied, 2 * HALF, "each version is completed once");
    }
    assert_eq!(two.deadlocks().await, 0);
}

/// A record from outside that requests an order may be delivered twice, and again when that order exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_that_create_orders_never_deadlock_with_those_that_change_them() {
    let two = Two::start().await;
    let requested = |id: &OrderId| Completion {
        order_id: *id,
        precondition: Precondition::Creation(Box::new(Creation { user_id: user(), payload: payload("{}") })),
        status: Status::Done,
        amount: None,
        reason: None,
    };
    for _ in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        let first = upper.iter().map(|id| done(*id, 1, "1")).chain(lower.iter().map(requested)).collect();
        let second = lower.iter().chain(&upper).map(|id| done(*id, 1, "1")).collect();
        two.complete([first, second]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}

/// A client sends one list of new orders, with its own ids, to two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_of_the_same_ids_in_opposite_orders_never_deadlock() {
    let two = Two::start().await;
    for _ in 0..ROUNDS {
        let ids = ids();
        let batch = |ids: &mut dyn Iterator<Item = &OrderId>| ids.map(|id| create(*id).into()).collect();
        two.apply([batch(&mut ids.iter()), batch(&mut ids.iter().rev())]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}

/// A client uses each key twice, for different orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_keys_in_opposite_orders_never_deadlock() {
    let two = Two::start().await;
    let keyed = |command: Command, key: String| {
        let key = KeyText::parse(&key).expect("a key").of(&command);
        CommandRequest { command, key: Some(key) }
    };
    let update = |order_id: &OrderId| Command::Update {
        order_id: *order_id,
        user_id: Some(user()),
        payload: payload("[]"),
        if_version: None,
    };
    for run in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        let keys = || (0..HALF).map(|at| format!("update-{run}-{at}"));
        let first = lower.iter().zip(keys()).map(|(id, key)| keyed(update(id), key)).collect();
        let second = upper.iter().rev().zip(keys()).map(|(id, key)| keyed(update(id), key)).collect();
        two.apply([first, second]).await;

        let keys = || (0..HALF).map(|at| format!("create-{run}-{at}"));
        let batch = || keys().map(|key| keyed(creation(user(), "{}"), key)).collect::<Vec<_>>();
        let (first, mut second) = (batch(), batch());
        second.reverse();
        two.apply([first, second]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}
