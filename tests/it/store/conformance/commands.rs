//! Commands: the effects and answers of creations, updates and deletions, and their refusals. An event has the same
//! content as the row. A refusal changes no row, and affects no other command of its batch.

use std::sync::Arc;

use orderstream::order::{Command, OrderId, Status};
use orderstream::store::{Refusal, Store};

use super::{accept, apply, apply_all, create, creation, deletion, payload, row, some_user, update};

/// `apply`: a creation needs the id to be free; version 1, status new, pending, no amount yet.
pub(crate) async fn a_created_order_is_new_and_its_event_says_the_same(store: Arc<dyn Store>) {
    let user = some_user();
    let command = creation(user, r#"{"id": "A-1", "amount": 5}"#);
    let id = command.order_id();
    let event = accept(&*store, command).await;
    assert_eq!((event.order_id, event.version, event.user_id), (Some(id), Some(1), Some(user)));
    assert_eq!((event.status, event.payload.external_id()), (Status::New, "A-1"));

    let order = row(&*store, id).await;
    assert_eq!((order.id, order.user_id, order.status), (id, user, Status::New));
    assert_eq!((order.version, order.processed_version), (1, 0));
    assert_eq!((order.amount.to_string().as_str(), order.reason), ("0", None));
    assert_eq!((&order.payload, order.deleted_at), (&event.payload, None));
    assert_eq!((order.created_at, order.updated_at), (event.timestamp, event.timestamp));
}

/// `apply`: an update without a user is the owner's; the event carries the new content.
pub(crate) async fn an_update_raises_the_version_and_its_event_names_the_owner(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, r#"{"id": 1}"#).await;
    let created = row(&*store, id).await;

    for (version, user_id) in [(2, None), (3, Some(user))] {
        let content = payload(&format!(r#"{{"id": {version}}}"#));
        let command = Command::Update { order_id: id, user_id, payload: content.clone(), if_version: None };
        let event = accept(&*store, command).await;
        assert_eq!((event.order_id, event.version, event.user_id), (Some(id), Some(version), Some(user)));
        assert_eq!((event.status, &event.payload), (Status::Processing, &content));

        let order = row(&*store, id).await;
        assert_eq!((order.version, order.processed_version), (version, 0));
        assert_eq!((order.status, &order.payload), (Status::Processing, &content));
        assert_eq!((order.user_id, order.updated_at), (user, event.timestamp));
        assert_eq!((order.created_at, order.deleted_at), (created.created_at, None));
    }
}

/// `apply`: a deletion's event carries the stored payload, and the order can still be read.
pub(crate) async fn a_deletion_keeps_the_payload_and_its_event_carries_it(store: Arc<dyn Store>) {
    let user = some_user();
    for user_id in [None, Some(user)] {
        let id = create(&*store, user, r#"{"id": "first"}"#).await;
        accept(&*store, update(id, r#"{"id": "second"}"#)).await;
        let event = accept(&*store, Command::Delete { order_id: id, user_id, if_version: None }).await;
        assert_eq!((event.order_id, event.version, event.user_id), (Some(id), Some(3), Some(user)));
        assert_eq!((event.status, &event.payload), (Status::Deleted, &payload(r#"{"id": "second"}"#)));

        let order = row(&*store, id).await;
        assert_eq!((order.status, order.version), (Status::Deleted, 3));
        assert_eq!((&order.payload, order.deleted_at), (&event.payload, Some(event.timestamp)));
        assert_eq!(order.updated_at, event.timestamp);
    }
}

/// `apply`: an update or deletion needs the order not to be deleted.
pub(crate) async fn a_deleted_order_accepts_no_further_command(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, "{}").await;
    accept(&*store, deletion(id)).await;
    let before = row(&*store, id).await;
    assert_eq!(apply(&*store, update(id, "[]")).await, Err(Refusal::Deleted));
    assert_eq!(apply(&*store, deletion(id)).await, Err(Refusal::Deleted));
    let own = Command::Delete { order_id: id, user_id: Some(user), if_version: None };
    assert_eq!(apply(&*store, own).await, Err(Refusal::Deleted));
    let again = Command::Create { order_id: id, user_id: user, payload: payload("[]") };
    assert_eq!(
        apply(&*store, again).await,
        Err(Refusal::Exists { user_id: user, version: 2, deleted: true })
    );
    assert_eq!(row(&*store, id).await, before);
}

/// `apply`: an update or deletion needs the order to exist, and does not create it.
pub(crate) async fn an_unknown_order_is_not_found(store: Arc<dyn Store>) {
    let id = OrderId::generate();
    assert_eq!(apply(&*store, update(id, "{}")).await, Err(Refusal::NotFound));
    assert_eq!(apply(&*store, deletion(id)).await, Err(Refusal::NotFound));
    assert_eq!(store.get(id).await, Ok(None));
}

/// `apply`: an order must belong to the user where the command names one; another user cannot see that the order
/// exists, or that it is deleted.
pub(crate) async fn an_order_of_another_user_is_not_found_and_does_not_change(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    for deleted in [false, true] {
        if deleted {
            accept(&*store, deletion(id)).await;
        }
        let before = row(&*store, id).await;
        let stranger = Some(some_user());
        let write =
            Command::Update { order_id: id, user_id: stranger, payload: payload("[]"), if_version: None };
        assert_eq!(apply(&*store, write).await, Err(Refusal::NotFound));
        let remove = Command::Delete { order_id: id, user_id: stranger, if_version: None };
        assert_eq!(apply(&*store, remove).await, Err(Refusal::NotFound));
        assert_eq!(row(&*store, id).await, before);
    }
}

/// `apply`: each command counts on its own; a row that cannot be written fails alone.
pub(crate) async fn a_duplicate_id_is_refused_and_other_commands_of_the_batch_are_stored(
    store: Arc<dyn Store>,
) {
    let user = some_user();
    let existing = create(&*store, user, r#"{"n": 0}"#).await;
    let before = row(&*store, existing).await;
    let again = Command::Create { order_id: existing, user_id: some_user(), payload: payload(r#"{"n": 1}"#) };
    let (left, right) = (creation(user, r#"{"n": 2}"#), creation(user, r#"{"n": 3}"#));
    let ids = [left.order_id(), right.order_id()];

    let answers = apply_all(&*store, [left, again, right]).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1], Err(Refusal::Exists { user_id: user, version: 1, deleted: false }));
    for (answer, id) in [(&answers[0], ids[0]), (&answers[2], ids[1])] {
        assert_eq!(answer.as_ref().map(|event| event.order_id), Ok(Some(id)));
        assert_eq!(row(&*store, id).await.version, 1);
    }
    assert_eq!(row(&*store, existing).await, before);
}

/// `apply`: one result per command, in the order of the commands, whether each is accepted or refused.
pub(crate) async fn a_batch_answers_in_its_own_order(store: Arc<dyn Store>) {
    let user = some_user();
    let (old, gone) =
        (create(&*store, user, r#"{"n": 1}"#).await, create(&*store, user, r#"{"n": 2}"#).await);
    let foreign = create(&*store, some_user(), r#"{"n": 3}"#).await;
    accept(&*store, deletion(gone)).await;
    let (first, last) = (creation(user, r#"{"n": 4}"#), creation(user, r#"{"n": 5}"#));
    let (first_id, last_id, unknown) = (first.order_id(), last.order_id(), OrderId::generate());

    let batch = [
        last,
        update(gone, "[]"),
        update(old, r#"{"n": 6}"#),
        deletion(unknown),
        Command::Delete { order_id: foreign, user_id: Some(user), if_version: None },
        first,
    ];
    let answers = apply_all(&*store, batch).await;
    let outcomes: Vec<_> =
        answers.into_iter().map(|answer| answer.map(|event| (event.order_id, event.version))).collect();
    assert_eq!(
        outcomes,
        [
            Ok((Some(last_id), Some(1))),
            Err(Refusal::Deleted),
            Ok((Some(old), Some(2))),
            Err(Refusal::NotFound),
            Err(Refusal::NotFound),
            Ok((Some(first_id), Some(1))),
        ]
    );
    assert_eq!(row(&*store, old).await.payload, payload(r#"{"n": 6}"#));
    assert_eq!(row(&*store, last_id).await.payload, payload(r#"{"n": 5}"#));
    assert_eq!(row(&*store, foreign).await.status, Status::New);
}

/// `apply`: an empty batch has no results.
pub(crate) async fn an_empty_batch_is_answered_with_nothing(store: Arc<dyn Store>) {
    assert_eq!(store.apply(Arc::new([])).await, Ok(Vec::new()));
}
