//! The model that random writes are held against: the promises of `Store` written once more, without a database. It
//! keeps rows, what was done under each key, and every step of the history, and answers as a store must.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orderstream::order::{
    Amount, Cause, Command, Event, HistoryEvent, OrderId, Payload, Request, Status, UserId, Version,
};
use orderstream::store::{Accepted, Completed, Completion, Precondition, Refusal, ReplayedOutcome};

/// What the model holds of an order.
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

/// What a history event says of its order: version, cause, status, amount, reason.
pub(super) type Entry = (Version, Cause, Status, Option<Amount>, Option<String>);

/// The model: the rows, the ids in the order of their creation, what was done under each key, and every step.
#[derive(Default)]
pub(super) struct Model {
    pub(super) rows: BTreeMap<OrderId, Row>,
    arrivals: Vec<OrderId>,
    keys: BTreeMap<[u8; 16], ([u8; 16], ReplayedOutcome)>,
    pub(super) history: BTreeMap<OrderId, Vec<Entry>>,
}

/// What became of a request that was not refused: it was carried out now, or before.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Now(Told),
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

    /// A request whose key was used is not carried out; a refusal leaves no key and no step behind.
    pub(super) fn request(&mut self, request: &Request) -> Result<Answer, Refusal> {
        if let Some((key, (content, earlier))) =
            request.key.and_then(|key| Some((key, self.keys.get(&key.digest)?)))
        {
            return if key.content == *content {
                Ok(Answer::Before(*earlier))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let told = self.apply(&request.command)?;
        let (order_id, row) = (request.command.order_id(), &self.rows[&request.command.order_id()]);
        let (version, status) = (row.version, row.status);
        if let Some(key) = request.key {
            self.keys.insert(key.digest, (key.content, ReplayedOutcome { order_id, version, status }));
        }
        self.history.entry(order_id).or_default().push((version, Cause::Command, status, None, None));
        Ok(Answer::Now(told))
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
        Ok(row.told(command.order_id()))
    }

    /// A completion that was applied is a step. Where the status stayed another one, so did amount and reason.
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
            let step = (row.version, cause, row.status, amount, reason);
            self.history.entry(completion.order_id).or_default().push(step);
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
    pub(super) fn find(&self, external_id: &str, user_id: UserId) -> Option<OrderId> {
        let fits = |row: &Row| row.user_id == user_id && row.payload.external_id() == external_id;
        self.arrivals.iter().rev().copied().find(|id| fits(&self.rows[id]))
    }
}

/// What an event says, but for its time.
pub(super) type Told = (Option<OrderId>, Option<Version>, Option<UserId>, Payload, Status);

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

pub(super) fn answer(accepted: Accepted) -> Answer {
    match accepted {
        Accepted::Applied(event) => Answer::Now(tell(event)),
        Accepted::Replayed(earlier) => Answer::Before(earlier),
        Accepted::AppliedWithoutEvent(done) => panic!("nothing is too much to be brought back: {done:?}"),
    }
}

pub(super) fn entry(event: HistoryEvent) -> Entry {
    (event.version, event.cause, event.status, event.amount, event.reason)
}
