//! Requests: preconditions on the version, refusals of duplicate ids, and idempotency keys. A key is stored with the
//! outcome of its request, so the same request is executed once, no matter how often and how concurrently it is sent.

use std::sync::Arc;

use orderstream::order::{Command, CommandRequest, Event, KeyText, OrderId, Status, UserId, Version};
use orderstream::store::{Accepted, Refusal, ReplayedOutcome, Store};
use tokio::task::JoinSet;

use super::{accept, apply, complete, create, creation, deletion, done, payload, row, some_user, update};

/// A command with a key.
fn keyed(key: &str, command: Command) -> CommandRequest {
    let key = KeyText::parse(key).expect("a key").of(&command);
    CommandRequest { command, key: Some(key) }
}

/// Applies a batch of one request.
async fn send(store: &dyn Store, request: CommandRequest) -> Result<Accepted, Refusal> {
    let mut answers = store.apply(Arc::new([request])).await.expect("the store takes the batch");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Applies a request that must be accepted, and whose key is new.
async fn first(store: &dyn Store, request: CommandRequest) -> Event {
    match send(store, request).await {
        Ok(Accepted::Applied(event)) => event,
        other => panic!("the request is not executed: {other:?}"),
    }
}

/// The answer to a request that was executed before.
fn before(order_id: OrderId, version: Version, status: Status) -> Result<Accepted, Refusal> {
    Ok(Accepted::Replayed(ReplayedOutcome { order_id, version, status }))
}

/// An update without a user that names a version.
fn update_of(order_id: OrderId, if_version: Version, text: &str) -> Command {
    Command::Update { order_id, user_id: None, payload: payload(text), if_version: Some(if_version) }
}

fn deletion_of(order_id: OrderId, if_version: Version) -> Command {
    Command::Delete { order_id, user_id: None, if_version: Some(if_version) }
}

/// Sends all requests at once, each in a task of its own.
async fn together(store: &Arc<dyn Store>, requests: Vec<CommandRequest>) -> Vec<Result<Accepted, Refusal>> {
    let mut tasks = JoinSet::new();
    for request in requests {
        let store = Arc::clone(store);
        tasks.spawn(async move { send(&*store, request).await });
    }
    tasks.join_all().await
}

/// `apply`: an update or deletion needs the order to have the version that it names; a refusal names the current
/// version.
pub(crate) async fn a_command_that_names_a_version_needs_the_order_to_have_it(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(accept(&*store, update_of(id, 1, "[1]")).await.version, Some(2));
    complete(&*store, done(id, 2, "5")).await;
    let unchanged = row(&*store, id).await;
    for version in [0, 1, 3, Version::MAX] {
        let refusal = Err(Refusal::Changed { current: 2 });
        assert_eq!(apply(&*store, update_of(id, version, "[2]")).await, refusal, "{version}");
        assert_eq!(apply(&*store, deletion_of(id, version)).await, refusal, "{version}");
    }
    assert_eq!(row(&*store, id).await, unchanged);
    assert_eq!(accept(&*store, deletion_of(id, 2)).await.version, Some(3));
    assert_eq!(row(&*store, id).await.status, Status::Deleted);
}

/// `apply`: of several reasons to refuse, the first of these counts: not found or another user's, deleted, changed.
pub(crate) async fn of_several_reasons_to_refuse_the_first_counts(store: Arc<dyn Store>) {
    let unknown = OrderId::generate();
    assert_eq!(apply(&*store, update_of(unknown, 1, "[]")).await, Err(Refusal::NotFound));
    assert_eq!(apply(&*store, deletion_of(unknown, 1)).await, Err(Refusal::NotFound));
    let id = create(&*store, some_user(), "{}").await;
    let stranger = |if_version| Command::Delete {
        order_id: id,
        user_id: Some(some_user()),
        if_version: Some(if_version),
    };
    assert_eq!(apply(&*store, stranger(1)).await, Err(Refusal::NotFound));
    assert_eq!(apply(&*store, stranger(9)).await, Err(Refusal::NotFound));
    accept(&*store, deletion(id)).await;
    assert_eq!(apply(&*store, stranger(2)).await, Err(Refusal::NotFound));
    for version in [1, 2, 9] {
        assert_eq!(apply(&*store, update_of(id, version, "[]")).await, Err(Refusal::Deleted), "{version}");
        assert_eq!(apply(&*store, deletion_of(id, version)).await, Err(Refusal::Deleted), "{version}");
    }
}

/// `apply`: the refusal of a creation with a duplicate id names the order's owner and current state.
pub(crate) async fn a_duplicate_id_is_refused_with_the_owner_and_the_version(store: Arc<dyn Store>) {
    let user_id = some_user();
    let id = create(&*store, user_id, "{}").await;
    let again = |user_id| Command::Create { order_id: id, user_id, payload: payload("[]") };
    let taken = |version, deleted| Err(Refusal::Exists { user_id, version, deleted });
    assert_eq!(apply(&*store, again(user_id)).await, taken(1, false));
    accept(&*store, update(id, "[1]")).await;
    assert_eq!(apply(&*store, again(some_user())).await, taken(2, false));
    accept(&*store, deletion(id)).await;
    assert_eq!(apply(&*store, again(user_id)).await, taken(3, true));
}

/// `apply`: a request whose key was used is not executed, but answered with the outcome of the first one.
pub(crate) async fn a_repeated_request_gets_the_replayed_outcome(store: Arc<dyn Store>) {
    let user = some_user();
    let created = first(&*store, keyed("create", creation(user, "[1]"))).await;
    let id = created.order_id.expect("the event names the order");
    // The service generates a new id each time; the id is not part of the compared content.
    let again = creation(user, "[1]");
    let other = again.order_id();
    assert_eq!(send(&*store, keyed("create", again)).await, before(id, 1, Status::New));
    assert_eq!(store.get(other).await, Ok(None));

    let changed = first(&*store, keyed("update", update(id, "[2]"))).await;
    assert_eq!((changed.version, changed.status), (Some(2), Status::Processing));
    let unchanged = row(&*store, id).await;
    assert_eq!(send(&*store, keyed("update", update(id, "[2]"))).await, before(id, 2, Status::Processing));
    assert_eq!(row(&*store, id).await, unchanged);

    first(&*store, keyed("delete", deletion(id))).await;
    let unchanged = row(&*store, id).await;
    assert_eq!(send(&*store, keyed("delete", deletion(id))).await, before(id, 3, Status::Deleted));
    assert_eq!(row(&*store, id).await, unchanged);
}

/// `apply`: the replayed outcome is that of the first request, also where the order has changed and the request would
/// be refused now.
pub(crate) async fn the_replayed_outcome_stays_when_the_order_changes(store: Arc<dyn Store>) {
    let user = some_user();
    let created = keyed("create", creation(user, "[1]"));
    let id = created.command.order_id();
    first(&*store, created.clone()).await;
    let changed = keyed("update", update_of(id, 1, "[2]"));
    first(&*store, changed.clone()).await;
    for change in [Some(done(id, 2, "5")), None] {
        match change {
            Some(completion) => drop(complete(&*store, completion).await),
            None => drop(accept(&*store, deletion(id)).await),
        }
        let unchanged = row(&*store, id).await;
        assert_eq!(send(&*store, created.clone()).await, before(id, 1, Status::New));
        assert_eq!(send(&*store, changed.clone()).await, before(id, 2, Status::Processing));
        assert_eq!(row(&*store, id).await, unchanged);
    }
}

/// `apply`: a request with a key that was used for another content is refused, and changes no row.
pub(crate) async fn a_key_with_another_content_is_refused(store: Arc<dyn Store>) {
    let user = some_user();
    let id = first(&*store, keyed("k", creation(user, "[1]"))).await.order_id.expect("an id");
    let other = creation(user, "[2]");
    let other_id = other.order_id();
    assert_eq!(send(&*store, keyed("k", other)).await, Err(Refusal::KeyReused));
    assert_eq!(store.get(other_id).await, Ok(None));
    let own =
        |user_id, text| Command::Update { order_id: id, user_id, payload: payload(text), if_version: None };
    assert_eq!(send(&*store, keyed("k", own(Some(user), "[1]"))).await, Err(Refusal::KeyReused));
    assert_eq!(row(&*store, id).await.version, 1);
    // The same text of another user is another key.
    first(&*store, keyed("k", creation(some_user(), "[2]"))).await;
    first(&*store, keyed("k", own(None, "[1]"))).await;
    // The first use still counts.
    assert_eq!(send(&*store, keyed("k", creation(user, "[1]"))).await, before(id, 1, Status::New));
}

/// `apply`: a refusal stores no key, so the same request may succeed later.
pub(crate) async fn a_refused_request_stores_no_key(store: Arc<dyn Store>) {
    let user = some_user();
    let command = creation(user, "{}");
    let id = command.order_id();
    let early = keyed("update", update(id, "[1]"));
    assert_eq!(send(&*store, early.clone()).await, Err(Refusal::NotFound));
    accept(&*store, command).await;
    assert_eq!(first(&*store, early).await.version, Some(2));

    let exists = Err(Refusal::Exists { user_id: user, version: 2, deleted: false });
    let taken = Command::Create { order_id: id, user_id: user, payload: payload("[2]") };
    assert_eq!(send(&*store, keyed("create", taken)).await, exists);
    // The key is free, also for another content.
    first(&*store, keyed("create", creation(user, "[3]"))).await;

    let late = keyed("late", deletion_of(id, 3));
    assert_eq!(send(&*store, late.clone()).await, Err(Refusal::Changed { current: 2 }));
    accept(&*store, update(id, "[4]")).await;
    assert_eq!(first(&*store, late).await.status, Status::Deleted);
    let gone = keyed("gone", update(id, "[5]"));
    assert_eq!(send(&*store, gone.clone()).await, Err(Refusal::Deleted));
    assert_eq!(send(&*store, gone).await, Err(Refusal::Deleted));
}

/// `apply`: each request counts on its own: in one batch some are new, some are repeated and some are refused.
pub(crate) async fn requests_of_every_kind_share_a_batch(store: Arc<dyn Store>) {
    let user = some_user();
    let used = first(&*store, keyed("used", creation(user, "[1]"))).await.order_id.expect("an id");
    let plain = creation(user, "[2]");
    let fresh = keyed("fresh", creation(user, "[3]"));
    let ids = [plain.order_id(), fresh.command.order_id()];
    let batch = [
        plain.into(),
        keyed("used", creation(user, "[1]")),
        keyed("unknown", deletion(OrderId::generate())),
        fresh,
        update_of(used, 1, "[4]").into(),
    ];
    let answers = store.apply(Arc::new(batch)).await.expect("the store takes the batch");
    let outcomes: Vec<_> = answers
        .into_iter()
        .map(|answer| {
            answer.map(|accepted| match accepted {
                Accepted::Applied(event) => (event.order_id, event.version),
                Accepted::Replayed(replayed) => (Some(replayed.order_id), None),
                Accepted::AppliedWithoutEvent(done) => panic!("nothing was deleted: {done:?}"),
            })
        })
        .collect();
    let expected = [
        Ok((Some(ids[0]), Some(1))),
        Ok((Some(used), None)),
        Err(Refusal::NotFound),
        Ok((Some(ids[1]), Some(1))),
        Ok((Some(used), Some(2))),
    ];
    assert_eq!(outcomes, expected);
    for id in ids {
        assert_eq!(row(&*store, id).await.version, 1);
    }
    assert_eq!(send(&*store, keyed("fresh", creation(user, "[3]"))).await, before(ids[1], 1, Status::New));
}

/// `apply`: the same request from many concurrent callers creates one order, and all callers get that one.
pub(crate) async fn fifty_concurrent_equal_requests_create_one_order(store: Arc<dyn Store>) {
    for attempt in 0..5 {
        let user = some_user();
        let requests: Vec<CommandRequest> =
            (0..50).map(|_| keyed(&format!("round {attempt}"), creation(user, "[1]"))).collect();
        let ids: Vec<OrderId> = requests.iter().map(|request| request.command.order_id()).collect();
        let (mut created, mut outcomes) = (Vec::new(), Vec::new());
        for answer in together(&store, requests).await {
            match answer.expect("none is refused") {
                Accepted::Applied(event) => created.push(event.order_id.expect("the event names the order")),
                Accepted::Replayed(replayed) => outcomes.push(replayed),
                Accepted::AppliedWithoutEvent(done) => panic!("nothing was deleted: {done:?}"),
            }
        }
        assert_eq!((created.len(), outcomes.len()), (1, 49));
        let expected = ReplayedOutcome { order_id: created[0], version: 1, status: Status::New };
        assert!(outcomes.iter().all(|replayed| *replayed == expected), "{outcomes:?}");
        assert_eq!(orders_among(&*store, &ids, user).await, created);
    }
}

/// `apply`: of different concurrent requests with one key, one is executed and the others change no row.
pub(crate) async fn only_one_of_concurrent_different_requests_with_one_key_is_executed(
    store: Arc<dyn Store>,
) {
    let user = some_user();
    let requests: Vec<CommandRequest> =
        (0..30).map(|n| keyed("k", creation(user, &format!("[{n}]")))).collect();
    let ids: Vec<OrderId> = requests.iter().map(|request| request.command.order_id()).collect();
    let mut created = Vec::new();
    for answer in together(&store, requests).await {
        match answer {
            Ok(Accepted::Applied(event)) => created.push(event.order_id.expect("the event names the order")),
            other => assert_eq!(other, Err(Refusal::KeyReused)),
        }
    }
    assert_eq!(created.len(), 1);
    assert_eq!(orders_among(&*store, &ids, user).await, created);
}

/// `apply`: many concurrent updates name one version, and one of them is accepted.
pub(crate) async fn only_one_of_concurrent_updates_of_one_version_is_accepted(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let requests = (0..50).map(|n| update_of(id, 1, &format!("[{n}]")).into()).collect();
    let mut accepted = Vec::new();
    for answer in together(&store, requests).await {
        match answer {
            Ok(Accepted::Applied(event)) => accepted.push(event),
            other => assert_eq!(other, Err(Refusal::Changed { current: 2 })),
        }
    }
    assert_eq!(accepted.len(), 1);
    let order = row(&*store, id).await;
    assert_eq!((order.version, &order.payload), (2, &accepted[0].payload));
}

/// The ids among these that are orders of that user.
async fn orders_among(store: &dyn Store, ids: &[OrderId], user: UserId) -> Vec<OrderId> {
    let mut orders = Vec::new();
    for id in ids {
        if let Some(order) = store.get(*id).await.expect("the store reads") {
            assert_eq!(order.user_id, user);
            orders.push(order.id);
        }
    }
    orders
}
