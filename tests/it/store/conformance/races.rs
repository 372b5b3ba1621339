//! Many concurrent callers. The tests do not wait for time to pass: the callers are tasks that start together, and the
//! promises hold for every interleaving. Each check compares the answers with the final row.

use std::sync::Arc;

use orderstream::order::{Command, Event, OrderId, Payload, Status};
use orderstream::store::{Completed, Refusal, Store};
use tokio::task::JoinSet;

use super::{accept, apply, complete, create, deletion, done, payload, row, some_user, update};

/// Applies each command in a task of its own, all at once, and answers each with its result.
async fn together(store: &Arc<dyn Store>, commands: Vec<Command>) -> Vec<(Command, Result<Event, Refusal>)> {
    let mut tasks = JoinSet::new();
    for command in commands {
        let store = Arc::clone(store);
        tasks.spawn(async move { (command.clone(), apply(&*store, command).await) });
    }
    tasks.join_all().await
}

/// `apply`: every write is one conditional statement, so no two updates get the same version, each caller gets the
/// event of its own update, and the row has the content of the last one.
pub(crate) async fn a_hundred_concurrent_updates_get_a_hundred_versions_without_a_gap(store: Arc<dyn Store>) {
    let user = some_user();
    let id = create(&*store, user, "{}").await;
    let commands = (0..100).map(|n| update(id, &format!(r#"{{"id": "caller-{n}"}}"#))).collect();
    let mut accepted: Vec<(i64, Payload)> = Vec::new();
    for (command, answer) in together(&store, commands).await {
        let event = answer.expect("the update is accepted");
        let Command::Update { payload, .. } = command else { unreachable!("only updates were sent") };
        assert_eq!((&event.payload, event.user_id), (&payload, Some(user)));
        accepted.push((event.version.expect("our events have a version"), payload));
    }
    accepted.sort_by_key(|(version, _)| *version);
    let versions: Vec<i64> = accepted.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (2..=101).collect::<Vec<i64>>());

    let order = row(&*store, id).await;
    assert_eq!((order.version, order.processed_version), (101, 0));
    assert_eq!(order.payload, accepted[99].1);
    assert_eq!(order.status, Status::Processing);
}

/// `apply`: a creation needs the id to be free.
pub(crate) async fn a_hundred_concurrent_creations_of_one_id_create_one_order(store: Arc<dyn Store>) {
    let order_id = OrderId::generate();
    let commands = (0..100).map(|n| Command::Create {
        order_id,
        user_id: some_user(),
        payload: payload(&format!(r#"{{"id": {n}}}"#)),
    });
    let mut created = Vec::new();
    for (_, answer) in together(&store, commands.collect()).await {
        match answer {
            Ok(event) => created.push(event),
            Err(refusal) => assert!(matches!(refusal, Refusal::Exists { version: 1, deleted: false, .. })),
        }
    }
    assert_eq!(created.len(), 1);
    let order = row(&*store, order_id).await;
    assert_eq!((Some(order.user_id), order.payload), (created[0].user_id, created[0].payload.clone()));
    assert_eq!(store.scan(None, 10).await.expect("the store reads").len(), 1);
}

/// `apply`: once a deletion is accepted its version is the order's last, and its event carries the payload of
/// the version before it.
pub(crate) async fn no_update_is_accepted_after_a_deletion(store: Arc<dyn Store>) {
    for round in 0..20 {
        let id = create(&*store, some_user(), r#"{"id": "created"}"#).await;
        let mut commands: Vec<Command> =
            (0..10).map(|n| update(id, &format!(r#"{{"id": "caller-{n}"}}"#))).collect();
        // The deletion starts at another position each time.
        commands.insert(round % 11, deletion(id));

        let mut deleted = None;
        let mut before = vec![payload(r#"{"id": "created"}"#); 12];
        let mut newest = 1;
        for (_, answer) in together(&store, commands).await {
            match answer {
                Ok(event) if event.status == Status::Deleted => deleted = Some(event),
                Ok(event) => {
                    let version = event.version.expect("our events have a version");
                    newest = newest.max(version);
                    before[version as usize - 1] = event.payload;
                }
                Err(refusal) => assert_eq!(refusal, Refusal::Deleted),
            }
        }
        let deleted = deleted.expect("the deletion is accepted");
        assert_eq!(deleted.version, Some(newest + 1), "an update was accepted after the deletion");
        assert_eq!(deleted.payload, before[newest as usize - 1]);
        assert_eq!(apply(&*store, update(id, "[]")).await, Err(Refusal::Deleted));
        let order = row(&*store, id).await;
        assert_eq!((order.status, order.version), (Status::Deleted, newest + 1));
        assert_eq!(order.payload, deleted.payload);
    }
}

/// `complete`: at-least-once delivery has its effect exactly once.
pub(crate) async fn a_version_completed_by_many_workers_is_applied_once(store: Arc<dyn Store>) {
    let id = create(&*store, some_user(), "{}").await;
    let mut workers = JoinSet::new();
    for n in 1..=50 {
        let store = Arc::clone(&store);
        workers.spawn(async move { (n, complete(&*store, done(id, 1, &n.to_string())).await) });
    }
    let mut applied = Vec::new();
    for (n, outcome) in workers.join_all().await {
        match outcome {
            Completed::Applied => applied.push(n.to_string()),
            other => assert_eq!(other, Completed::Stale),
        }
    }
    assert_eq!(applied, [row(&*store, id).await.amount.to_string()]);
}

/// `complete`: a completion applies only while its version is the newest, so an update is never marked as
/// done by the completion of the content before it.
pub(crate) async fn an_update_that_races_a_completion_stays_pending(store: Arc<dyn Store>) {
    for _ in 0..20 {
        let id = create(&*store, some_user(), "{}").await;
        let worker = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { complete(&*store, done(id, 1, "5")).await })
        };
        accept(&*store, update(id, "[]")).await;
        let outcome = worker.await.expect("the worker ends");
        let order = row(&*store, id).await;
        assert_eq!((order.status, order.version, order.is_pending()), (Status::Processing, 2, true));
        let (processed, digits) = if outcome == Completed::Applied { (1, "5") } else { (0, "0") };
        assert_eq!((order.processed_version, order.amount.to_string().as_str()), (processed, digits));
    }
}
