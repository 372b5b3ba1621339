//! The model with which the tests compare random writes: the promises of `Store` once more, without a database. It
//! keeps the rows, the outcome of each key and the history, and answers as a store must.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orderstream::order::{
    Amount, Cause, Command, CommandRequest, Event, HistoryEvent, OrderId, Payload, Status, UserId, Version,
};
use orderstream::store::{Accepted, Completed, Completion, Precondition, Refusal, ReplayedOutcome};

/// An order in the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) user_id: UserId,
    pub(super) payload: Payload,
    pub(super) status: Status,
    pub(super) amount: Amount,
    pub(super) reason: Option<String>,
    pub(super) version: Version,
    pub(super) processed_version: Version,
    pub(super) sent: Option<Timestamp>,
}

/// The content of a history event: version, cause, status, amount, reason.
pub(super) type Entry = (Version, Cause, Status, Option<Amount>, Option<String>);

/// The model: the rows, the ids in the order of their creation, the outcome of each key, and the history.
#[derive(Default)]
pub(super) struct Model {
    pub(super) rows: BTreeMap<OrderId, Row>,
    arrivals: Vec<OrderId>,
    keys: BTreeMap<[u8; 16], ([u8; 16], ReplayedOutcome)>,
    pub(super) history: BTreeMap<OrderId, Vec<Entry>>,
}

/// The outcome of an accepted request: it was executed now, or before.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Now(Content),
    Before(ReplayedOutcome),
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

    /// A request whose key was used is not executed; a refusal stores no key and no history event.
    pub(super) fn request(&mut self, request: &CommandRequest) -> Result<Answer, Refusal> {
        if let Some((key, (content, replayed))) =
            request.key.and_then(|key| Some((key, self.keys.get(&key.digest)?)))
        {
            return if key.content == *content {
                Ok(Answer::Before(*replayed))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let content = self.apply(&request.command)?;
        let (order_id, row) = (request.command.order_id(), &self.rows[&request.command.order_id()]);
        let (version, status) = (row.version, row.status);
        if let Some(key) = request.key {
            self.keys.insert(key.digest, (key.content, ReplayedOutcome { order_id, version, status }));
        }
        self.history.entry(order_id).or_default().push((version, Cause::Command, status, None, None));
        Ok(Answer::Now(content))
    }

    fn apply(&mut self, command: &Command) -> Result<Content, Refusal> {
        if let Command::Create { order_id, user_id, payload } = command {
            if let Some(row) = self.rows.get(order_id) {
                let (user_id, version, deleted) = (row.user_id, row.version, row.status == Status::Deleted);
                return Err(Refusal::Exists { user_id, version, deleted });
            }
            return Ok(self.insert(*order_id, *user_id, payload).content(*order_id));
        }
        let row = self.rows.get_mut(&command.order_id()).ok_or(Refusal::NotFound)?;
        let (Command::Update { user_id, if_version, .. } | Command::Delete { user_id, if_version, .. }) =
            command
        else {
            unreachable!("creations are done");
        };
        if user_id.is_some_and(|user| user != row.user_id) {
            return Err(Refusal::NotFound);
        }
        if row.status == Status::Deleted {
            return Err(Refusal::Deleted);
        }
        if if_version.is_some_and(|version| version != row.version) {
            return Err(Refusal::Changed { current: row.version });
        }
        row.status = Status::Deleted;
        if let Command::Update { payload, .. } = command {
            row.payload = payload.clone();
            row.status = Status::Processing;
        }
        row.reason = None;
        row.version += 1;
        Ok(row.content(command.order_id()))
    }

    /// An applied completion is a history event. Where its status was not taken, neither are its amount and reason.
    pub(super) fn completion(&mut self, completion: &Completion) -> Completed {
        let outcome = self.complete(completion);
        if outcome == Completed::Applied {
            let row = &self.rows[&completion.order_id];
            let (amount, reason) = match row.status == completion.status {
                true => (completion.amount.clone(), completion.reason.clone()),
                false => (None, None),
            };
            let cause = match completion.precondition {
                Precondition::Version(_) => Cause::Worker,
                Precondition::Unversioned(_) | Precondition::Creation(_) => Cause::Event,
            };
            let event = (row.version, cause, row.status, amount, reason);
            self.history.entry(completion.order_id).or_default().push(event);
        }
        outcome
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
                // In the model, events without a version are older than every version, which has the store's own time.
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
    pub(super) fn find(&self, external_id: &str, user_id: UserId) -> Option<OrderId> {
        let fits = |row: &Row| row.user_id == user_id && row.payload.external_id() == external_id;
        self.arrivals.iter().rev().copied().find(|id| fits(&self.rows[id]))
    }
}

/// The content of an event, without its time.
pub(super) type Content = (Option<OrderId>, Option<Version>, Option<UserId>, Payload, Status);

impl Row {
    fn content(&self, id: OrderId) -> Content {
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

fn content(event: Event) -> Content {
    (event.order_id, event.version, event.user_id, event.payload, event.status)
}

pub(super) fn answer(accepted: Accepted) -> Answer {
    match accepted {
        Accepted::Applied(event) => Answer::Now(content(event)),
        Accepted::Replayed(replayed) => Answer::Before(replayed),
        Accepted::AppliedWithoutEvent(done) => {
            panic!("every event of the model is small enough to be returned: {done:?}")
        }
    }
}

pub(super) fn entry(event: HistoryEvent) -> Entry {
    (event.version, event.cause, event.status, event.amount, event.reason)
}
