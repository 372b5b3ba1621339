//! The knowledge of a client of the load about one of its orders: the commands that it sent, those that were confirmed,
//! and those without a conclusive answer. It is compared with the store: no confirmed order is lost, duplicated or
//! reverted.

use orderstream::order::{Amount, Order, Status};
use serde_json::Value;

use crate::clients::USER;
use crate::clients::wire::Answer;

/// An order, as its client knows it.
#[derive(Default)]
pub(crate) struct ClientModel {
    external_id: String,
    id: Option<String>,
    /// Commands sent, confirmed, and without a conclusive answer.
    sent: u64,
    confirmed: i64,
    unanswered: i64,
    /// The steps that unanswered creations and updates would have written.
    unanswered_steps: Vec<u64>,
    /// The step that the newest confirmed command wrote.
    written: u64,
    deletion: Deletion,
}

/// What the client knows about the deletion of its order.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    #[default]
    None,
    Unanswered,
    Confirmed,
}

/// A command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Update,
    Delete,
}

impl ClientModel {
    /// An order that the client will create under that name.
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

    /// Whether the deletion is confirmed.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deletion == Deletion::Confirmed
    }

    /// The next command for it: two updates, and a deletion if the order is `mortal`. `None` after the last one.
    pub(crate) fn next(&self, mortal: bool) -> Option<Action> {
        match (&self.id, self.deletion, self.sent) {
            (None, ..) | (_, Deletion::Confirmed, _) => None,
            (.., 0..=2) => Some(Action::Update),
            (.., 3) if mortal => Some(Action::Delete),
            _ => None,
        }
    }

    /// The body of the request for a command. `step` is the number of the request, and is written to the payload.
    pub(crate) fn request_body(&mut self, action: Action, step: u64) -> String {
        self.sent += 1;
        let name = &self.external_id;
        let payload = format!(r#"{{"id":"{name}","step":{step},"items":[{{"price":"0.10","qty":{step}}}]}}"#);
        match (action, &self.id) {
            (Action::Update, Some(id)) => format!(r#"{{"order_id":"{id}","payload":{payload}}}"#),
            (Action::Delete, Some(id)) => format!(r#"{{"order_id":"{id}","status":"deleted"}}"#),
            _ => format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#),
        }
    }

    /// Records an answer, and returns whether the order was stored but not processed yet.
    pub(crate) fn record_answer(&mut self, action: Action, step: u64, answer: &Answer) -> bool {
        let (id, word) = (answer.text("order_id"), answer.text("status"));
        match (action, answer.status, word.as_str()) {
            (Action::Create, 201, "created") | (Action::Create, 202, "accepted") => {
                self.id = Some(id.clone());
            }
            (Action::Update, 200, "updated") | (Action::Update, 202, "accepted") => {}
            (Action::Delete, 200, "deleted") | (Action::Delete, 202, "accepted") => {
                self.deletion = Deletion::Confirmed;
            }
            // The unanswered deletion had taken effect.
            (_, 409, "deleted") if self.deletion == Deletion::Unanswered => {
                self.deletion = Deletion::Confirmed;
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

    /// Records that the answer is missing or inconclusive.
    pub(crate) fn record_no_answer(&mut self, action: Action, step: u64) {
        self.unanswered += 1;
        match action {
            Action::Delete => self.deletion = Deletion::Unanswered,
            Action::Create | Action::Update => self.unanswered_steps.push(step),
        }
    }

    /// From now on, the unanswered commands count as not carried out.
    pub(crate) fn expect_unanswered_commands_undone(&mut self) {
        self.unanswered = 0;
        self.unanswered_steps.clear();
        if self.deletion == Deletion::Unanswered {
            self.deletion = Deletion::None;
        }
    }

    /// Compares it with all orders of that name.
    pub(crate) fn check(&self, found: &[&Order]) {
        let name = &self.external_id;
        assert!(found.len() <= 1, "{name} exists {} times", found.len());
        match (&self.id, found.first()) {
            (Some(id), Some(order)) => self.check_order(id, order),
            (Some(id), None) => panic!("{name}, order {id}, is lost"),
            // A creation whose caller got no answer.
            (None, Some(order)) => assert!(self.unanswered > 0 && order.version == 1, "{order:?}"),
            (None, None) => {}
        }
    }

    fn check_order(&self, id: &str, order: &Order) {
        let name = &self.external_id;
        assert_eq!(order.id.to_string(), id, "{name} is another order than the one confirmed");
        let versions = self.confirmed..=self.confirmed + self.unanswered;
        assert!(versions.contains(&order.version), "{name}: {versions:?} were accepted: {order:?}");
        let payload: Value = serde_json::from_str(order.payload.as_str()).expect("a payload is JSON");
        let step = payload["step"].as_u64().expect("every payload has a step");
        // A command without an answer may also take effect after a later one: a database continues the commit of a
        // process that was killed.
        let is_known = step == self.written || self.unanswered_steps.contains(&step);
        assert!(is_known, "{name}: {} was confirmed: {order:?}", self.written);
        match self.deletion {
            Deletion::Confirmed => {
                assert_eq!(order.status, Status::Deleted, "{name} is not deleted any more")
            }
            Deletion::None => assert_eq!(order.status, Status::Done, "{name}"),
            Deletion::Unanswered => {
                assert!(matches!(order.status, Status::Done | Status::Deleted), "{order:?}")
            }
        }
        if order.status == Status::Done {
            let amount = Amount::parse(&format!("{}.{}", step / 10, step % 10));
            assert_eq!(Some(&order.amount), amount.as_ref(), "{name}: {order:?}");
        }
    }
}
