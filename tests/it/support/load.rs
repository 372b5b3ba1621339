//! Load with a memory: clients that create, update and delete orders of their own as fast as they are answered,
//! and note what each was told. When their connections break they stop, and what they noted can be held
//! against what the store kept. The load is bounded: a client ends by itself after so many requests.

use std::collections::HashMap;
use std::net::SocketAddr;

use orderstream::order::{Amount, Order, OrderId, Status};
use orderstream::service::verify::Confirmed;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::USER;
use super::wait::{until, within};
use super::wire::{Answer, Broken, Wire};

/// How many requests a client sends at most before it ends.
const REQUESTS: usize = 2_000;

/// Clients, and all that they remember.
pub(crate) struct Load {
    clients: Vec<Client>,
}

/// Clients at work.
pub(crate) struct Running {
    clients: JoinSet<Client>,
    confirmations: mpsc::UnboundedReceiver<()>,
}

/// One client with one connection at a time.
struct Client {
    name: String,
    orders: Vec<Story>,
    /// Counts the requests, and is what each writes into its order.
    step: u64,
    endings: Vec<Ending>,
}

/// How a client's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its connection was refused.
    Refused,
    /// It was turned away with a whole 503.
    TurnedAway,
    /// Its connection broke before or in the middle of an answer.
    Broken(Broken),
    /// It had sent all its requests.
    Exhausted,
}

/// What a client knows of an order.
#[derive(Default)]
struct Story {
    external_id: String,
    id: Option<String>,
    /// Commands sent, answered, and left without an answer.
    sent: u64,
    confirmed: i64,
    in_doubt: i64,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Create,
    Update,
    Delete,
}

impl Load {
    /// So many clients, which know nothing yet.
    pub(crate) fn of(count: usize) -> Load {
        let client = |number| Client {
            name: format!("client-{number}"),
            orders: Vec::new(),
            step: 0,
            endings: Vec::new(),
        };
        Load { clients: (0..count).map(client).collect() }
    }

    /// Sets the clients to work.
    pub(crate) fn start(self, address: SocketAddr) -> Running {
        let (confirmed, confirmations) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for client in self.clients {
            clients.spawn(client.work(address, confirmed.clone()));
        }
        Running { clients, confirmations }
    }

    /// How each client's work ended, each time.
    pub(crate) fn endings(&self) -> impl Iterator<Item = &Ending> {
        self.clients.iter().flat_map(|client| &client.endings)
    }

    /// Waits until every order that was confirmed is done or deleted, as its owner sees it.
    pub(crate) async fn settle(&self, address: SocketAddr) {
        let mut wire = Wire::connect(address).await.expect("it listens");
        for id in self.clients.iter().flat_map(|client| &client.orders).filter_map(|story| story.id.as_ref())
        {
            let path = format!("/orders/{id}");
            until("an order to be done", async || {
                let answer = wire.get(&path).await.expect("an answer");
                assert_eq!(answer.status, 200, "a confirmed order is lost: {answer:?}");
                let body: Value = serde_json::from_str(&answer.body).expect("the body is JSON");
                matches!(body["order"]["status"].as_str(), Some("done" | "deleted")).then_some(())
            })
            .await;
        }
    }

    /// Demands from now on that no command which was left without an answer so far was carried out.
    pub(crate) fn expect_the_unanswered_undone(&mut self) {
        for story in self.clients.iter_mut().flat_map(|client| &mut client.orders) {
            story.in_doubt = 0;
            if story.deleted == Known::Maybe {
                story.deleted = Known::No;
            }
        }
    }

    /// What the clients were told, for the checker.
    pub(crate) fn confirmed(&self) -> Confirmed {
        let mut confirmed = Confirmed::default();
        for story in self.clients.iter().flat_map(|client| &client.orders) {
            match story.id.as_ref().and_then(|id| OrderId::parse(id)) {
                Some(id) if story.deleted == Known::Yes => confirmed.add_deleted(id),
                Some(id) => confirmed.add_stored(id),
                None => {}
            }
        }
        confirmed
    }

    /// Holds what was confirmed against what is there: nothing lost, nothing twice, nothing undone.
    pub(crate) fn check(&self, orders: &[Order]) {
        let mut named: HashMap<&str, Vec<&Order>> = HashMap::new();
        for order in orders {
            named.entry(order.payload.external_id()).or_default().push(order);
        }
        for story in self.clients.iter().flat_map(|client| &client.orders) {
            let name = story.external_id.as_str();
            let found = named.remove(name).unwrap_or_default();
            assert!(found.len() <= 1, "{name} is there {} times", found.len());
            match (&story.id, found.first()) {
                (Some(id), Some(order)) => story.check(id, order),
                (Some(id), None) => panic!("{name}, order {id}, is lost"),
                // A creation whose caller got no answer.
                (None, Some(order)) => assert!(story.in_doubt > 0 && order.version == 1, "{order:?}"),
                (None, None) => {}
            }
        }
        assert!(named.is_empty(), "nobody asked for these: {:?}", named.keys());
    }
}

impl Running {
    /// Waits until so many commands more have been confirmed.
    pub(crate) async fn confirmed(&mut self, count: usize) {
        for _ in 0..count {
            let confirmation = within("a confirmation", self.confirmations.recv()).await;
            assert!(confirmation.is_some(), "every client has stopped");
        }
    }

    /// Waits until every client has stopped.
    pub(crate) async fn ended(self) -> Load {
        Load { clients: within("the clients' end", self.clients.join_all()).await }
    }
}

impl Client {
    async fn work(mut self, address: SocketAddr, confirmed: mpsc::UnboundedSender<()>) -> Client {
        let ending = self.run(address, &confirmed).await;
        self.endings.push(ending);
        self
    }

    async fn run(&mut self, address: SocketAddr, confirmed: &mpsc::UnboundedSender<()>) -> Ending {
        let mut open: Option<Wire> = None;
        for _ in 0..REQUESTS {
            let mut wire = match open.take() {
                Some(wire) => wire,
                None => match Wire::connect(address).await {
                    Ok(wire) => wire,
                    Err(_) => return Ending::Refused,
                },
            };
            let (action, body) = self.next();
            match wire.post(&body).await {
                Ok(answer) if answer.status == 503 => return Ending::TurnedAway,
                Ok(answer) => {
                    self.note(action, &answer);
                    // Nobody counts any more once the process has been killed.
                    let _ = confirmed.send(());
                    open = (!answer.closes()).then_some(wire);
                }
                Err(broken) => {
                    self.doubt(action);
                    return Ending::Broken(broken);
                }
            }
        }
        Ending::Exhausted
    }

    /// A life is a creation and two updates, and for every third order a deletion.
    fn next(&mut self) -> (Action, String) {
        self.step += 1;
        let (step, count) = (self.step, self.orders.len());
        let action = match self.orders.last() {
            Some(Story { id: Some(_), deleted: Known::No | Known::Maybe, sent, .. }) => match sent {
                0..=2 => Action::Update,
                3 if count.is_multiple_of(3) => Action::Delete,
                _ => Action::Create,
            },
            _ => Action::Create,
        };
        if action == Action::Create {
            let external_id = format!("{}/order-{count}", self.name);
            self.orders.push(Story { external_id, ..Story::default() });
        }
        let story = self.orders.last_mut().expect("there is one now");
        story.sent += 1;
        let name = &story.external_id;
        let payload = format!(r#"{{"id":"{name}","step":{step},"items":[{{"price":"0.10","qty":{step}}}]}}"#);
        let body = match (action, &story.id) {
            (Action::Update, Some(id)) => format!(r#"{{"order_id":"{id}","payload":{payload}}}"#),
            (Action::Delete, Some(id)) => format!(r#"{{"order_id":"{id}","status":"deleted"}}"#),
            _ => format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#),
        };
        (action, body)
    }

    fn note(&mut self, action: Action, answer: &Answer) {
        let step = self.step;
        let story = self.orders.last_mut().expect("it was asked for");
        let id = answer.text("order_id");
        match (action, answer.status, answer.text("status").as_str()) {
            (Action::Create, 201, "created") => story.id = Some(id.clone()),
            (Action::Update, 200, "updated") => {}
            (Action::Delete, 200, "deleted") => story.deleted = Known::Yes,
            // The deletion that was left without an answer had been carried out.
            (_, 409, "deleted") if story.deleted == Known::Maybe => {
                story.deleted = Known::Yes;
                return;
            }
            _ => panic!("not an answer to that request: {answer:?}"),
        }
        assert_eq!(story.id, Some(id), "the answer is about another order");
        story.confirmed += 1;
        if action != Action::Delete {
            story.written = step;
        }
    }

    fn doubt(&mut self, action: Action) {
        let story = self.orders.last_mut().expect("it was asked for");
        story.in_doubt += 1;
        if action == Action::Delete {
            story.deleted = Known::Maybe;
        }
    }
}

impl Story {
    fn check(&self, id: &str, order: &Order) {
        let name = &self.external_id;
        assert_eq!(order.id.to_string(), id, "{name} is another order than the one confirmed");
        let versions = self.confirmed..=self.confirmed + self.in_doubt;
        assert!(versions.contains(&order.version), "{name}: {versions:?} were accepted: {order:?}");
        let payload: Value = serde_json::from_str(order.payload.as_str()).expect("a payload is JSON");
        let step = payload["step"].as_u64().expect("every payload has a step");
        match self.in_doubt {
            0 => assert_eq!(step, self.written, "{name}: {order:?}"),
            _ => assert!(step >= self.written, "{name}: {order:?}"),
        }
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
