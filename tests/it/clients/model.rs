//! What a client of the load knows of one of its orders: what it asked for, what it was told, and what it was left
//! in doubt about. Held against what the store kept: nothing lost, nothing twice, nothing undone.

use orderstream::order::{Amount, Order, Status};
use serde_json::Value;

use crate::clients::USER;
use crate::clients::wire::Answer;

/// An order, as its client knows it.
#[derive(Default)]
pub(crate) struct ClientModel {
    external_id: String,
    id: Option<String>,
    /// Commands sent, answered, and left without an answer.
    sent: u64,
    confirmed: i64,
    in_doubt: i64,
    /// The steps of those that were to write one.
    doubted: Vec<u64>,
    /// The step that the newest confirmed command wrote.
    written: u64,
    deleted: Known,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Known {
    #[default]
    No,
    Maybe,
    Yes,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

impl ClientModel {
    /// An order that is to be created under that name.
    pub(crate) fn new(external_id: String) -> ClientModel {
        ClientModel { external_id, ..ClientModel::default() }
    }

    /// The order's id, once it is known.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The name that its payload carries.
    pub(crate) fn external_id(&self) -> &str {
        &self.external_id
    }

    /// Whether its client knows that it is deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted == Known::Yes
    }

    /// What comes next in its life: two updates, and a deletion for those that are `mortal`. `None`: nothing.
    pub(crate) fn next(&self, mortal: bool) -> Option<Action> {
        match (&self.id, self.deleted, self.sent) {
            (None, ..) | (_, Known::Yes, _) => None,
            (.., 0..=2) => Some(Action::Update),
            (.., 3) if mortal => Some(Action::Delete),
            _ => None,
        }
    }

    /// The request for that.
    pub(crate) fn ask(&mut self, action: Action, step: u64) -> String {
        self.sent += 1;
        let name = &self.external_id;
        let payload = format!(r#"{{"id":"{name}","step":{step},"items":[{{"price":"0.10","qty":{step}}}]}}"#);
        match (action, &self.id) {
            (Action::Update, Some(id)) => format!(r#"{{"order_id":"{id}","payload":{payload}}}"#),
            (Action::Delete, Some(id)) => format!(r#"{{"order_id":"{id}","status":"deleted"}}"#),
            _ => format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#),
        }
    }

    /// Takes note of an answer; answers whether it was the late kind, stored and not processed yet.
    pub(crate) fn note(&mut self, action: Action, step: u64, answer: &Answer) -> bool {
        let (id, word) = (answer.text("order_id"), answer.text("status"));
        match (action, answer.status, word.as_str()) {
            (Action::Create, 201, "created") | (Action::Create, 202, "accepted") => {
                self.id = Some(id.clone());
            }
            (Action::Update, 200, "updated") | (Action::Update, 202, "accepted") => {}
            (Action::Delete, 200, "deleted") | (Action::Delete, 202, "accepted") => {
                self.deleted = Known::Yes;
            }
            // The deletion that was left without an answer had been carried out.
            (_, 409, "deleted") if self.deleted == Known::Maybe => {
                self.deleted = Known::Yes;
                return false;
            }
            _ => panic!("not an answer to that request: {answer:?}"),
        }
        assert_eq!(self.id, Some(id), "the answer is about another order");
        self.confirmed += 1;
        if action != Action::Delete {
            self.written = step;
        }
        answer.status == 202
    }

    /// Takes note that there was no answer, or one that does not tell.
    pub(crate) fn doubt(&mut self, action: Action, step: u64) {
        self.in_doubt += 1;
        match action {
            Action::Delete => self.deleted = Known::Maybe,
            Action::Create | Action::Update => self.doubted.push(step),
        }
    }

    /// From now on, what was left in doubt counts as not carried out.
    pub(crate) fn expect_the_unanswered_undone(&mut self) {
        self.in_doubt = 0;
        self.doubted.clear();
        if self.deleted == Known::Maybe {
            self.deleted = Known::No;
        }
    }

    /// Holds it against all orders of that name.
    pub(crate) fn check(&self, found: &[&Order]) {
        let name = &self.external_id;
        assert!(found.len() <= 1, "{name} is there {} times", found.len());
        match (&self.id, found.first()) {
            (Some(id), Some(order)) => self.check_order(id, order),
            (Some(id), None) => panic!("{name}, order {id}, is lost"),
            // A creation whose caller got no answer.
            (None, Some(order)) => assert!(self.in_doubt > 0 && order.version == 1, "{order:?}"),
            (None, None) => {}
        }
    }

    fn check_order(&self, id: &str, order: &Order) {
        let name = &self.external_id;
        assert_eq!(order.id.to_string(), id, "{name} is another order than the one confirmed");
        let versions = self.confirmed..=self.confirmed + self.in_doubt;
        assert!(versions.contains(&order.version), "{name}: {versions:?} were accepted: {order:?}");
        let payload: Value = serde_json::from_str(order.payload.as_str()).expect("a payload is JSON");
        let step = payload["step"].as_u64().expect("every payload has a step");
        // A command without an answer may also take effect after a later one: a database goes on with the commit of
        // a process that was killed.
        let is_known = step == self.written || self.doubted.contains(&step);
        assert!(is_known, "{name}: {} was confirmed: {order:?}", self.written);
        match self.deleted {
            Known::Yes => assert_eq!(order.status, Status::Deleted, "{name} is back"),
            Known::No => assert_eq!(order.status, Status::Done, "{name}"),
            Known::Maybe => assert!(matches!(order.status, Status::Done | Status::Deleted), "{order:?}"),
        }
        if order.status == Status::Done {
            let amount = Amount::parse(&format!("{}.{}", step / 10, step % 10));
            assert_eq!(Some(&order.amount), amount.as_ref(), "{name}: {order:?}");
        }
    }
}
