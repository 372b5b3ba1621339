//! Random sequences of writes against a model of a few lines: whatever is asked in whatever order, the store
//! answers what the model answers and its rows end as the model's. The model is the trait's promises written
//! once more, without a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{Amount, Command, Event, Order, OrderId, Payload, Status, UserId, Version};
use orderstream::store::{Completed, Completion, Creation, Precondition, Refusal, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{Fresh, amount, apply_all, payload, some_user};

/// A write, with places in small lists instead of ids, users and payloads.
#[derive(Debug, Clone)]
enum Write {
    Create {
        user: usize,
        text: usize,
    },
    Update {
        user: Option<usize>,
        text: usize,
    },
    Delete {
        user: Option<usize>,
    },
    /// Of the version that far behind the newest.
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
    let command = prop_oneof![
        2 => (0..2_usize, text()).prop_map(|(user, text)| Write::Create { user, text }),
        4 => (user(), text()).prop_map(|(user, text)| Write::Update { user, text }),
        1 => user().prop_map(|user| Write::Delete { user }),
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

/// What the model holds of an order.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    user_id: UserId,
    payload: Payload,
    status: Status,
    amount: Amount,
    reason: Option<String>,
    version: Version,
    processed_version: Version,
    sent: Option<Timestamp>,
}

/// The model: the rows, and the ids in the order of their creation.
#[derive(Default)]
struct Model {
    rows: BTreeMap<OrderId, Row>,
    arrivals: Vec<OrderId>,
}

impl Model {
    fn insert(&mut self, id: OrderId, user_id: UserId, payload: &Payload) -> &mut Row {
        self.arrivals.push(id);
        self.rows.entry(id).or_insert(Row {
            user_id,
            payload: payload.clone(),
            status: Status::New,
            amount: Amount::zero(),
            reason: None,
            version: 1,
            processed_version: 0,
            sent: None,
        })
    }

    fn apply(&mut self, command: &Command) -> Result<Told, Refusal> {
        if let Command::Create { order_id, user_id, payload } = command {
            if let Some(row) = self.rows.get(order_id) {
                let (user_id, version, deleted) = (row.user_id, row.version, row.status == Status::Deleted);
                return Err(Refusal::Exists { user_id, version, deleted });
            }
            return Ok(self.insert(*order_id, *user_id, payload).told(*order_id));
        }
        let row = self.rows.get_mut(&command.order_id()).ok_or(Refusal::NotFound)?;
        let (Command::Update { user_id, .. } | Command::Delete { user_id, .. }) = command else {
            unreachable!("creations are done");
        };
        if user_id.is_some_and(|user| user != row.user_id) {
            return Err(Refusal::NotFound);
        }
        if row.status == Status::Deleted {
            return Err(Refusal::Deleted);
        }
        row.status = Status::Deleted;
        if let Command::Update { payload, .. } = command {
            row.payload = payload.clone();
            row.status = Status::Processing;
        }
        row.reason = None;
        row.version += 1;
        Ok(row.told(command.order_id()))
    }

    fn complete(&mut self, completion: &Completion) -> Completed {
        let id = completion.order_id;
        if let Precondition::Creation(creation) = &completion.precondition {
            if self.rows.contains_key(&id) {
                return Completed::Stale;
            }
            let row = self.insert(id, creation.user_id, &creation.payload);
            row.processed_version = 1;
            return row.take(completion);
        }
        let Some(row) = self.rows.get_mut(&id) else { return Completed::Unknown };
        let allowed = row.status == completion.status || row.status.next(completion.status).is_ok();
        match &completion.precondition {
            Precondition::Version(version) => {
                if *version != row.version || row.processed_version >= *version {
                    return Completed::Stale;
                }
                row.processed_version = *version;
                // The events of the model are older than every version, which has the store's own time.
                row.sent = Some(Timestamp::MAX);
                if allowed { row.take(completion) } else { Completed::Applied }
            }
            Precondition::Unversioned(sent) => {
                if row.sent.is_some_and(|last| *sent <= last) || !allowed || row.status == Status::Deleted {
                    return Completed::Stale;
                }
                row.sent = Some(*sent);
                row.take(completion)
            }
            Precondition::Creation(_) => unreachable!("creations are done"),
        }
    }

    /// The newest order of a user with that external id.
    fn find(&self, external_id: &str, user_id: UserId) -> Option<OrderId> {
        let fits = |row: &Row| row.user_id == user_id && row.payload.external_id() == external_id;
        self.arrivals.iter().rev().copied().find(|id| fits(&self.rows[id]))
    }
}

/// What an event says, but for its time.
type Told = (Option<OrderId>, Option<Version>, Option<UserId>, Payload, Status);

impl Row {
    fn told(&self, id: OrderId) -> Told {
        (Some(id), Some(self.version), Some(self.user_id), self.payload.clone(), self.status)
    }

    fn take(&mut self, completion: &Completion) -> Completed {
        self.status = completion.status;
        self.reason.clone_from(&completion.reason);
        if let Some(amount) = &completion.amount {
            self.amount = amount.clone();
        }
        Completed::Applied
    }
}

fn tell(event: Event) -> Told {
    (event.order_id, event.version, event.user_id, event.payload, event.status)
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
        let mut commands = Vec::new();
        let mut completions = Vec::new();
        for (order, write) in writes {
            match self.spell_out(self.ids[*order], write) {
                Ok(command) => commands.push(command),
                Err(completion) => completions.push(completion),
            }
        }
        let expected: Vec<_> = commands.iter().map(|command| self.model.apply(command)).collect();
        let answers = apply_all(&*self.store, commands.clone()).await;
        let told: Vec<Result<Told, Refusal>> = answers.into_iter().map(|answer| answer.map(tell)).collect();
        prop_assert_eq!(told, expected, "of {:?}", commands);

        let expected: Vec<_> = completions.iter().map(|completion| self.model.complete(completion)).collect();
        let answers =
            self.store.complete(completions.clone().into()).await.expect("the store takes the batch");
        prop_assert_eq!(answers, expected, "of {:?}", completions);
        self.compare(&before).await
    }

    fn spell_out(&self, order_id: OrderId, write: &Write) -> Result<Command, Completion> {
        let user = |place: &Option<usize>| place.map(|place| self.users[place]);
        let digits = |value: &Option<u8>| value.map(|value| amount(&format!("{value}.10")));
        let completion = |precondition, status, amount: Option<Amount>| {
            // Nothing was worked out for an order that is gone or called off.
            let amount = amount.filter(|_| matches!(status, Status::Done | Status::Failed));
            let reason = (status == Status::Failed).then(|| "it failed".to_owned());
            Err(Completion { order_id, precondition, status, amount, reason })
        };
        match write {
            Write::Create { user, text } => {
                let (user_id, payload) = (self.users[*user], payload(TEXTS[*text]));
                Ok(Command::Create { order_id, user_id, payload })
            }
            Write::Update { user: place, text } => Ok(Command::Update {
                order_id,
                user_id: user(place),
                payload: payload(TEXTS[*text]),
                if_version: None,
            }),
            Write::Delete { user: place } => {
                Ok(Command::Delete { order_id, user_id: user(place), if_version: None })
            }
            Write::Version { behind, status, amount } => {
                let version = self.model.rows.get(&order_id).map_or(1, |row| row.version) - behind;
                completion(Precondition::Version(version), *status, digits(amount))
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

    /// Every row is the model's; what a row says of its creation and deletion never changes.
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

    /// The lookups agree with the model, and so does the list of what is pending.
    async fn finish(&self) -> Result<(), TestCaseError> {
        for user in &self.users {
            for external_id in ["a", "b", ""] {
                let found = self.store.find_by_external(external_id, *user).await.expect("the store reads");
                let expected =
                    if external_id.is_empty() { None } else { self.model.find(external_id, *user) };
                prop_assert_eq!(found.map(|order| order.id), expected, "{:?}", external_id);
            }
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

/// `apply` and `complete`, all their promises at once.
pub(crate) fn any_sequence_of_writes_ends_as_the_model_says(make: &impl AsyncFn() -> Fresh) {
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
