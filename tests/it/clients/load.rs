//! Load with a memory: clients that create, update and delete orders of their own as fast as they are answered,
//! and note what each was told, which can be held against what the store kept. When its process goes away, a
//! client of one server stops; a client of several goes on at another one. The load is bounded: a client ends by
//! itself after so many requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orderstream::checker::verify::Confirmed;
use orderstream::order::{Order, OrderId};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clients::model::{Action, ClientModel};
use crate::clients::wire::{Answer, Broken, Wire};
use crate::harness::wait::{until, within};

/// How many requests a client sends at most before it ends.
const REQUESTS: usize = 2_000;

/// How long a client of several servers that found none stays away: it must not spend its requests on that.
const AWAY: Duration = Duration::from_millis(50);

/// Clients, and all that they remember.
pub(crate) struct Load {
    clients: Vec<Client>,
}

/// Clients at work.
pub(crate) struct Running {
    clients: JoinSet<Client>,
    confirmations: mpsc::UnboundedReceiver<()>,
    stop: Arc<AtomicBool>,
}

/// Where the clients of several servers find them; may change while they work.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Vec<SocketAddr>>>);

/// One client with one connection at a time.
struct Client {
    name: String,
    orders: Vec<ClientModel>,
    /// Counts the requests, and is what each writes into its order.
    step: u64,
    endings: Vec<Ending>,
    takes_202: bool,
    /// How often it was told that its order is stored and not processed yet.
    late: usize,
}

/// Where a client works, and what becomes of it there.
#[derive(Clone)]
struct Work {
    places: Places,
    roams: bool,
    stop: Arc<AtomicBool>,
    confirmed: mpsc::UnboundedSender<()>,
}

/// How a client's work ended, or, where it goes on elsewhere, what made it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its connection was refused.
    Refused,
    /// It was turned away with a whole problem of the service's own, of this code.
    TurnedAway(String),
    /// Its connection broke before or in the middle of an answer.
    Broken(Broken),
    /// It had sent all its requests.
    Exhausted,
    /// It was told to stop.
    Stopped,
}

impl Places {
    /// These, from now on.
    pub(crate) fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// One of them; `None` where there is none.
    fn one(&self, number: usize) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!all.is_empty()).then(|| all[number % all.len()])
    }
}

impl Load {
    /// So many clients, which know nothing yet.
    pub(crate) fn of(count: usize) -> Load {
        let client = |number| Client {
            name: format!("client-{number}"),
            orders: Vec::new(),
            step: 0,
            endings: Vec::new(),
            takes_202: false,
            late: 0,
        };
        Load { clients: (0..count).map(client).collect() }
    }

    /// Has the clients take a 202 for an answer, which is none otherwise.
    pub(crate) fn taking_202(mut self) -> Load {
        self.clients.iter_mut().for_each(|client| client.takes_202 = true);
        self
    }

    /// Sets the clients to work on one server.
    pub(crate) fn start(self, address: SocketAddr) -> Running {
        let places = Places::default();
        places.set(vec![address]);
        self.run(places, false)
    }

    /// Sets the clients to work on several servers.
    pub(crate) fn start_on(self, places: &Places) -> Running {
        self.run(places.clone(), true)
    }

    fn run(self, places: Places, roams: bool) -> Running {
        let (confirmed, confirmations) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { places, roams, stop: Arc::clone(&stop), confirmed };
        let mut clients = JoinSet::new();
        for (number, client) in self.clients.into_iter().enumerate() {
            clients.spawn(client.work(number, work.clone()));
        }
        Running { clients, confirmations, stop }
    }

    /// How each client's work ended, each time.
    pub(crate) fn endings(&self) -> impl Iterator<Item = &Ending> {
        self.clients.iter().flat_map(|client| &client.endings)
    }

    /// How many answers were a 202.
    pub(crate) fn late(&self) -> usize {
        self.clients.iter().map(|client| client.late).sum()
    }

    fn models(&self) -> impl Iterator<Item = &ClientModel> {
        self.clients.iter().flat_map(|client| &client.orders)
    }

    /// Waits until every order that was confirmed is done or deleted, as its owner sees it.
    pub(crate) async fn settle(&self, address: SocketAddr) {
        let mut wire = Wire::connect(address).await.expect("it listens");
        for id in self.models().filter_map(ClientModel::id) {
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
        let models = self.clients.iter_mut().flat_map(|client| &mut client.orders);
        models.for_each(ClientModel::expect_the_unanswered_undone);
    }

    /// The orders that were confirmed to the clients, and as what, in the checker's words.
    pub(crate) fn confirmed_orders(&self) -> Vec<(OrderId, &'static str)> {
        let word = |model: &ClientModel| if model.is_deleted() { "deleted" } else { "created" };
        self.models().filter_map(|model| Some((OrderId::parse(model.id()?)?, word(model)))).collect()
    }

    /// The same, for the checker.
    pub(crate) fn confirmed(&self) -> Confirmed {
        confirmed(&self.confirmed_orders())
    }

    /// Holds what was confirmed against what is there: nothing lost, nothing twice, nothing undone.
    pub(crate) fn check(&self, orders: &[Order]) {
        let mut named: HashMap<&str, Vec<&Order>> = HashMap::new();
        for order in orders {
            named.entry(order.payload.external_id()).or_default().push(order);
        }
        for model in self.models() {
            model.check(&named.remove(model.external_id()).unwrap_or_default());
        }
        assert!(named.is_empty(), "nobody asked for these: {:?}", named.keys());
    }
}

/// What callers were told of orders, for the checker.
pub(crate) fn confirmed(told: &[(OrderId, &str)]) -> Confirmed {
    let mut confirmed = Confirmed::default();
    for (id, status) in told {
        match *status {
            "deleted" => confirmed.add_deleted(*id),
            _ => confirmed.add_stored(*id),
        }
    }
    confirmed
}

impl Running {
    /// Waits until so many commands more have been confirmed.
    pub(crate) async fn confirmed(&mut self, count: usize) {
        for _ in 0..count {
            let confirmation = within("a confirmation", self.confirmations.recv()).await;
            assert!(confirmation.is_some(), "every client has stopped");
        }
    }

    /// Forgets what was confirmed until now.
    pub(crate) fn count_anew(&mut self) {
        while self.confirmations.try_recv().is_ok() {}
    }

    /// Waits until every client has stopped by itself.
    pub(crate) async fn ended(self) -> Load {
        Load { clients: within("the clients' end", self.clients.join_all()).await }
    }

    /// Has every client stop after its next answer.
    pub(crate) async fn stopped(self) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        self.ended().await
    }
}

impl Client {
    async fn work(mut self, number: usize, work: Work) -> Client {
        let mut open: Option<Wire> = None;
        for request in 0..REQUESTS {
            if work.stop.load(Ordering::Relaxed) {
                self.endings.push(Ending::Stopped);
                return self;
            }
            let ending = match self.request(number + request, &mut open, &work).await {
                Ok(()) => continue,
                Err(ending) => ending,
            };
            open = None;
            let is_away = matches!(ending, Ending::Refused | Ending::TurnedAway(_));
            self.endings.push(ending);
            if !work.roams {
                return self;
            }
            if is_away {
                sleep(AWAY).await;
            }
        }
        self.endings.push(Ending::Exhausted);
        self
    }

    async fn request(&mut self, place: usize, open: &mut Option<Wire>, work: &Work) -> Result<(), Ending> {
        let mut wire = match open.take() {
            Some(wire) => wire,
            None => {
                let address = work.places.one(place).ok_or(Ending::Refused)?;
                Wire::connect(address).await.map_err(|_| Ending::Refused)?
            }
        };
        let (action, body) = self.next();
        let answer = within("an answer", wire.post(&body)).await.map_err(|broken| {
            self.doubt(action);
            Ending::Broken(broken)
        })?;
        if answer.status >= 500 {
            let code = answer.text("code");
            if code == "outcome_unknown" {
                self.doubt(action);
            }
            return Err(Ending::TurnedAway(code));
        }
        self.note(action, &answer);
        // Nobody counts any more once the process has been killed.
        let _ = work.confirmed.send(());
        *open = (!answer.closes()).then_some(wire);
        Ok(())
    }

    fn model(&mut self) -> &mut ClientModel {
        self.orders.last_mut().expect("it was asked for")
    }

    /// A life is a creation and two updates, and for every third order a deletion.
    fn next(&mut self) -> (Action, String) {
        self.step += 1;
        let (step, count) = (self.step, self.orders.len());
        let next = self.orders.last().and_then(|model| model.next(count.is_multiple_of(3)));
        let action = next.unwrap_or(Action::Create);
        if action == Action::Create {
            self.orders.push(ClientModel::new(format!("{}/order-{count}", self.name)));
        }
        (action, self.model().ask(action, step))
    }

    fn doubt(&mut self, action: Action) {
        let step = self.step;
        self.model().doubt(action, step);
    }

    fn note(&mut self, action: Action, answer: &Answer) {
        let step = self.step;
        let is_late = self.model().note(action, step, answer);
        assert!(!is_late || self.takes_202, "an order was not processed in time: {answer:?}");
        self.late += usize::from(is_late);
    }
}
