//! Random sequences of writes against a small model: for any commands in any order, the store answers as the model
//! does, and its rows, keys and history end as those of the model. The model is in [`reference`](super::reference).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{
    Amount, Command, CommandRequest, HistoryCursor, Key, KeyText, Order, OrderId, Status, UserId, Version,
};
use orderstream::store::{Completion, Creation, Precondition, Refusal, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::reference::{Answer, Entry, Model, Row, answer, entry};
use super::{Fresh, amount, payload, some_user};

/// A write, with indexes into small lists instead of ids, users and payloads.
#[derive(Debug, Clone)]
enum Write {
    Create {
        user: usize,
        text: usize,
        key: Option<usize>,
    },
    /// Where `behind` is given, the precondition is the version that far behind the newest.
    Update {
        user: Option<usize>,
        text: usize,
        behind: Option<Version>,
        key: Option<usize>,
    },
    Delete {
        user: Option<usize>,
        behind: Option<Version>,
        key: Option<usize>,
    },
    /// A completion of the version that far behind the newest.
    Version {
        behind: Version,
        status: Status,
        amount: Option<u8>,
    },
    Unversioned {
        at: i64,
        status: Status,
        amount: Option<u8>,
    },
    Creation {
        user: usize,
        text: usize,
        amount: u8,
    },
}

const TEXTS: [&str; 4] = [r#"{"id": "a"}"#, r#"{"id": "b"}"#, r#"{"n": 1.10, "id": "a"}"#, "[]"];
/// Few keys, so that they are repeated, with the same content and with another one.
const KEYS: [&str; 2] = ["k", "l"];
const ORDERS: usize = 3;

/// A batch is all commands or all completions, each about another order.
fn batch() -> impl Strategy<Value = BTreeMap<usize, Write>> {
    let user = || prop_oneof![2 => Just(None), 2 => Just(Some(0_usize)), 1 => Just(Some(1))];
    let text = || 0..TEXTS.len();
    let digits = || prop::option::of(0..100_u8);
    let status = || {
        use Status::{Cancelled, Deleted, Done, Failed};
        prop::sample::select(vec![Done, Done, Done, Failed, Failed, Cancelled, Deleted])
    };
    let key = || prop_oneof![2 => Just(None), 1 => (0..KEYS.len()).prop_map(Some)];
    let behind = || prop_oneof![3 => Just(None), 2 => Just(Some(0)), 1 => (-1..=2_i64).prop_map(Some)];
    let command = prop_oneof![
        2 => (0..2_usize, text(), key()).prop_map(|(user, text, key)| Write::Create { user, text, key }),
        4 => (user(), text(), behind(), key())
            .prop_map(|(user, text, behind, key)| Write::Update { user, text, behind, key }),
        1 => (user(), behind(), key()).prop_map(|(user, behind, key)| Write::Delete { user, behind, key }),
    ];
    let completion = prop_oneof![
        6 => (-1..=2_i64, status(), digits())
            .prop_map(|(behind, status, amount)| Write::Version { behind, status, amount }),
        2 => (0..6_i64, status(), digits())
            .prop_map(|(at, status, amount)| Write::Unversioned { at, status, amount }),
        1 => (0..2_usize, text(), 0..100_u8)
            .prop_map(|(user, text, amount)| Write::Creation { user, text, amount }),
    ];
    prop_oneof![
        prop::collection::btree_map(0..ORDERS, command, 1..=ORDERS),
        prop::collection::btree_map(0..ORDERS, completion, 1..=ORDERS),
    ]
}

/// One run: its own orders and users in a store that it shares with the other runs.
struct Run {
    store: Arc<dyn Store>,
    ids: Vec<OrderId>,
    users: Vec<UserId>,
    model: Model,
}

impl Run {
    async fn batch(&mut self, writes: &BTreeMap<usize, Write>) -> Result<(), TestCaseError> {
        let before = self.rows().await;
        let mut requests: Vec<CommandRequest> = Vec::new();
        let mut completions = Vec::new();
        for (order, write) in writes {
            match self.resolve(self.ids[*order], write) {
                Ok(mut request) => {
                    // The caller names each key at most once in a batch.
                    let is_taken = |key: &Key| {
                        requests.iter().any(|other| other.key.is_some_and(|it| it.digest == key.digest))
                    };
                    request.key = request.key.filter(|key| !is_taken(key));
                    requests.push(request);
                }
                Err(completion) => completions.push(completion),
            }
        }
        let expected: Vec<_> = requests.iter().map(|request| self.model.request(request)).collect();
        let answers = self.store.apply(requests.clone().into()).await.expect("the store takes the batch");
        let actual: Vec<Result<Answer, Refusal>> = answers.into_iter().map(|it| it.map(answer)).collect();
        prop_assert_eq!(actual, expected, "of {:?}", requests);

        let expected: Vec<_> =
            completions.iter().map(|completion| self.model.completion(completion)).collect();
        let answers =
            self.store.complete(completions.clone().into()).await.expect("the store takes the batch");
        prop_assert_eq!(answers, expected, "of {:?}", completions);
        self.compare(&before).await
    }

    fn resolve(&self, order_id: OrderId, write: &Write) -> Result<CommandRequest, Completion> {
        let newest = self.model.rows.get(&order_id).map_or(1, |row| row.version);
        let request = |command: Command, key: &Option<usize>| {
            let key = key.map(|key| KeyText::parse(KEYS[key]).expect("a key").of(&command));
            Ok(CommandRequest { command, key })
        };
        // A version is never below zero.
        let named = |behind: &Option<Version>| behind.map(|behind| (newest - behind).max(0));
        let user = |index: &Option<usize>| index.map(|index| self.users[index]);
        let digits = |value: &Option<u8>| value.map(|value| amount(&format!("{value}.10")));
        let completion = |precondition, status, amount: Option<Amount>| {
            // There is no amount for a deleted or cancelled order.
            let amount = amount.filter(|_| matches!(status, Status::Done | Status::Failed));
            let reason = (status == Status::Failed).then(|| "it failed".to_owned());
            Err(Completion { order_id, precondition, status, amount, reason })
        };
        match write {
            Write::Create { user, text, key } => {
                let (user_id, payload) = (self.users[*user], payload(TEXTS[*text]));
                request(Command::Create { order_id, user_id, payload }, key)
            }
            Write::Update { user: index, text, behind, key } => {
                let (user_id, payload) = (user(index), payload(TEXTS[*text]));
                request(Command::Update { order_id, user_id, payload, if_version: named(behind) }, key)
            }
            Write::Delete { user: index, behind, key } => {
                request(Command::Delete { order_id, user_id: user(index), if_version: named(behind) }, key)
            }
            Write::Version { behind, status, amount } => {
                completion(Precondition::Version(newest - behind), *status, digits(amount))
            }
            Write::Unversioned { at, status, amount } => {
                let at = Timestamp::from_microsecond(*at).expect("a time");
                completion(Precondition::Unversioned(at), *status, digits(amount))
            }
            Write::Creation { user, text, amount } => {
                let (user_id, payload) = (self.users[*user], payload(TEXTS[*text]));
                let precondition = Precondition::Creation(Box::new(Creation { user_id, payload }));
                completion(precondition, Status::Done, digits(&Some(*amount)))
            }
        }
    }

    async fn rows(&self) -> Vec<Option<Order>> {
        let mut rows = Vec::new();
        for id in &self.ids {
            rows.push(self.store.get(*id).await.expect("the store reads"));
        }
        rows
    }

    /// Compares every row with the model; the times of creation and deletion never change.
    async fn compare(&self, before: &[Option<Order>]) -> Result<(), TestCaseError> {
        let rows = self.rows().await;
        for (order, before) in rows.iter().zip(before) {
            if let (Some(order), Some(before)) = (order, before) {
                prop_assert_eq!(order.created_at, before.created_at);
                prop_assert!(order.updated_at >= before.updated_at);
                prop_assert!(before.deleted_at.is_none() || order.deleted_at == before.deleted_at);
            }
        }
        for (id, order) in self.ids.iter().zip(rows) {
            let expected = self.model.rows.get(id);
            if let Some(order) = &order {
                prop_assert_eq!(order.deleted_at.is_some(), order.status == Status::Deleted);
            }
            let found = order.map(|order| Row {
                user_id: order.user_id,
                payload: order.payload,
                status: order.status,
                amount: order.amount,
                reason: order.reason,
                version: order.version,
                processed_version: order.processed_version,
                sent: expected.and_then(|row| row.sent),
            });
            prop_assert_eq!(found.as_ref(), expected);
        }
        Ok(())
    }

    /// Compares the lookups, the histories and the list of pending orders with the model.
    async fn finish(&self) -> Result<(), TestCaseError> {
        for user in &self.users {
            for external_id in ["a", "b", ""] {
                let found = self.store.find_by_external(external_id, *user).await.expect("the store reads");
                let expected =
                    if external_id.is_empty() { None } else { self.model.find(external_id, *user) };
                prop_assert_eq!(found.map(|order| order.id), expected, "{:?}", external_id);
            }
        }
        for id in &self.ids {
            let page =
                self.store.history(*id, HistoryCursor::default(), 1000).await.expect("the store reads");
            prop_assert!(page.events.is_sorted_by(|one, next| one.offset < next.offset));
            let found: Vec<Entry> = page.events.into_iter().map(entry).collect();
            let expected = self.model.history.get(id).cloned().unwrap_or_default();
            prop_assert_eq!(&found, &expected, "the history of {}", id);
            let newest = self.store.newest_history_event(*id, 1).await.expect("the store reads");
            prop_assert_eq!(newest.map(entry), expected.last().cloned());
        }
        let page = self.store.pending(Timestamp::MAX, None, 100_000).await.expect("the store reads");
        let listed: BTreeMap<_, _> = page
            .events
            .iter()
            .filter_map(|event| Some((event.order_id?, event.version)))
            .filter(|(id, _)| self.ids.contains(id))
            .collect();
        let behind = self.model.rows.iter().filter(|(_, row)| row.processed_version < row.version);
        prop_assert_eq!(listed, behind.map(|(id, row)| (*id, Some(row.version))).collect());
        Ok(())
    }
}

/// `apply` and `complete`: all promises at once.
pub(crate) fn any_sequence_of_writes_ends_as_in_the_model(make: &impl AsyncFn() -> Fresh) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fresh = runtime.block_on(make());
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let sequences = prop::collection::vec(batch(), 1..25);
    let outcome = TestRunner::new(config).run(&sequences, |batches| {
        runtime.block_on(async {
            let ids = (0..ORDERS).map(|_| OrderId::generate()).collect();
            let users = vec![some_user(), some_user()];
            let mut run = Run { store: Arc::clone(&fresh.store), ids, users, model: Model::default() };
            for writes in &batches {
                run.batch(writes).await?;
            }
            run.finish().await
        })
    });
    runtime.block_on(fresh.store.close());
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
