//! Two processes on one Postgres whose batches hold the same rows and keys, each in the opposite way of the other: each
//! waits for the other one's rows, and never in a circle. On servers of their own, which count their deadlocks.

use std::sync::Arc;

use orderstream::order::{Command, KeyText, OrderId, Request, Status, UserId};
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Completed, Completion, Creation, Maintenance, Orders, Precondition};
use tokio_postgres::{Client, NoTls};

use crate::harness::schema::options;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;
use crate::store::conformance::{creation, deletion, done, failed, payload, update};

/// How often the two meet.
const ROUNDS: usize = 20;

/// How many orders each half of a batch holds: enough for both processes to be at work at the same time.
const HALF: usize = 200;

/// What the connections of the stores are called.
const NAME: &str = "orderstream-test-of-locks";

/// Two processes' stores in one database, and a connection that looks on.
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

    /// Has both carry out a batch at the same time.
    async fn apply(&self, batches: [Vec<Request>; 2]) {
        let [first, second] = batches;
        let (first, second) =
            tokio::join!(self.stores[0].apply(first.into()), self.stores[1].apply(second.into()));
        first.expect("the first batch is carried out");
        second.expect("the second batch is carried out");
    }

    /// Has both record a batch at the same time, and answers what they say.
    async fn complete(&self, batches: [Vec<Completion>; 2]) -> [Vec<Completed>; 2] {
        let [first, second] = batches;
        let (first, second) =
            tokio::join!(self.stores[0].complete(first.into()), self.stores[1].complete(second.into()));
        [first.expect("the first batch is recorded"), second.expect("the second batch is recorded")]
    }

    /// Makes orders, and answers the lower half of their ids and the upper one.
    async fn orders(&self) -> [Vec<OrderId>; 2] {
        let mut ids = ids();
        let batch: Vec<Request> = ids.iter().map(|id| create(*id).into()).collect();
        self.stores[0].apply(batch.into()).await.expect("orders are made");
        let upper = ids.split_off(HALF);
        [ids, upper]
    }

    /// How many deadlocks the server has ended. A connection tells of its own at its end at the latest.
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

/// New ids, in their order.
fn ids() -> Vec<OrderId> {
    let mut ids: Vec<OrderId> = (0..2 * HALF).map(|_| OrderId::generate()).collect();
    ids.sort_unstable();
    ids
}

/// The one user, whose keys are one set.
fn user() -> UserId {
    UserId::from_bytes([7; 16])
}

fn create(order_id: OrderId) -> Command {
    Command::Create { order_id, user_id: user(), payload: payload("{}") }
}

/// A batch that updates some orders and deletes others.
fn changes(updated: &[OrderId], deleted: &[OrderId]) -> Vec<Request> {
    let updates = updated.iter().map(|id| update(*id, "[]").into());
    updates.chain(deleted.iter().map(|id| deletion(*id).into())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_updates_and_deletes_never_deadlocks_with_one_that_does_the_opposite() {
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

/// A record from outside that asks for an order may come twice, and again when that order exists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_of_orders_that_records_ask_for_never_deadlock_with_those_that_change_them() {
    let two = Two::start().await;
    let asked = |id: &OrderId| Completion {
        order_id: *id,
        precondition: Precondition::Creation(Box::new(Creation { user_id: user(), payload: payload("{}") })),
        status: Status::Done,
        amount: None,
        reason: None,
    };
    for _ in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        let first = upper.iter().map(|id| done(*id, 1, "1")).chain(lower.iter().map(asked)).collect();
        let second = lower.iter().chain(&upper).map(|id| done(*id, 1, "1")).collect();
        two.complete([first, second]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}

/// A client that sends one list of new orders, under ids of its own, to two processes.
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

/// A client that uses each key twice, for different orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_keys_in_opposite_orders_never_deadlock() {
    let two = Two::start().await;
    let keyed = |command: Command, key: String| {
        let key = KeyText::parse(&key).expect("a key").of(&command);
        Request { command, key: Some(key) }
    };
    let update = |order_id: &OrderId| Command::Update {
        order_id: *order_id,
        user_id: Some(user()),
        payload: payload("[]"),
        if_version: None,
    };
    for round in 0..ROUNDS {
        let [lower, upper] = two.orders().await;
        let keys = || (0..HALF).map(|at| format!("update-{round}-{at}"));
        let first = lower.iter().zip(keys()).map(|(id, key)| keyed(update(id), key)).collect();
        let second = upper.iter().rev().zip(keys()).map(|(id, key)| keyed(update(id), key)).collect();
        two.apply([first, second]).await;

        let keys = || (0..HALF).map(|at| format!("create-{round}-{at}"));
        let batch = || keys().map(|key| keyed(creation(user(), "{}"), key)).collect::<Vec<_>>();
        let (first, mut second) = (batch(), batch());
        second.reverse();
        two.apply([first, second]).await;
    }
    assert_eq!(two.deadlocks().await, 0);
}
