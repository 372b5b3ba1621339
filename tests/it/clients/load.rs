//! Load with models: clients create, update and delete their own orders as fast as the service answers, and each keeps
//! a model of its orders, which a test compares with the store. When its server ends, a client of one server stops; a
//! client of several servers continues at another one. The load is bounded: a client ends by itself after a maximum
//! number of requests.

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

/// How long a client of several servers pauses when none accepts it: it must not spend its requests on refusals.
const PAUSE: Duration = Duration::from_millis(50);

/// Clients and their models, not running.
pub(crate) struct Load {
    clients: Vec<Client>,
}

/// Running clients.
pub(crate) struct Running {
    clients: JoinSet<Client>,
    confirmations: mpsc::UnboundedReceiver<()>,
    stop: Arc<AtomicBool>,
}

/// The addresses of several servers, which may change while the clients run.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

/// One client with one connection at a time.
struct Client {
    name: String,
    orders: Vec<ClientModel>,
    /// Counts the requests; each writes its number to its order.
    step: u64,
    endings: Vec<Ending>,
    accepts_202: bool,
    /// How often its order was stored but not processed in time.
    late: usize,
}

/// What the clients of a load share while they run.
#[derive(Clone)]
struct Work {
    addresses: Addresses,
    /// Whether a client continues at another server.
    switches_servers: bool,
    stop: Arc<AtomicBool>,
    confirmed: mpsc::UnboundedSender<()>,
}

/// Why a client ended, or switched to another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its connection was refused.
    Refused,
    /// A complete problem of the service, with this code, rejected its request.
    Rejected(String),
    /// Its connection broke before or in the middle of an answer.
    Broken(Broken),
    /// It had sent all its requests.
    Exhausted,
    /// The test stopped it.
    Stopped,
}

impl Addresses {
    /// Replaces the addresses.
    pub(crate) fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// One of the addresses; `None` if there is none.
    fn get(&self, number: usize) -> Option<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!all.is_empty()).then(|| all[number % all.len()])
    }
}

impl Load {
    /// `count` clients without orders.
    pub(crate) fn of(count: usize) -> Load {
        let client = |number| Client {
            name: format!("client-{number}"),
            orders: Vec::new(),
            step: 0,
            endings: Vec::new(),
            accepts_202: false,
            late: 0,
        };
        Load { clients: (0..count).map(client).collect() }
    }

    /// Lets the clients accept a 202 as an answer, which otherwise fails the test.
    pub(crate) fn accepting_202(mut self) -> Load {
        self.clients.iter_mut().for_each(|client| client.accepts_202 = true);
        self
    }

    /// Starts the clients on one server.
    pub(crate) fn start(self, address: SocketAddr) -> Running {
        let addresses = Addresses::default();
        addresses.set(vec![address]);
        self.run(addresses, false)
    }

    /// Starts the clients on several servers.
    pub(crate) fn start_on(self, addresses: &Addresses) -> Running {
        self.run(addresses.clone(), true)
    }

    fn run(self, addresses: Addresses, switches_servers: bool) -> Running {
        let (confirmed, confirmations) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { addresses, switches_servers, stop: Arc::clone(&stop), confirmed };
        let mut clients = JoinSet::new();
        for (number, client) in self.clients.into_iter().enumerate() {
            clients.spawn(client.work(number, work.clone()));
        }
        Running { clients, confirmations, stop }
    }

    /// Why each client ended or switched servers, each time.
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

    /// Waits until every confirmed order is done or deleted, as its owner sees it.
    pub(crate) async fn settle(&self, address: SocketAddr) {
        let mut wire = Wire::connect(address).await.expect("a listening server");
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

    /// Requires from now on that no unanswered command was carried out.
    pub(crate) fn expect_unanswered_commands_undone(&mut self) {
        let models = self.clients.iter_mut().flat_map(|client| &mut client.orders);
        models.for_each(ClientModel::expect_unanswered_commands_undone);
    }

    /// The confirmed orders of the clients, with their statuses in the checker's words.
    pub(crate) fn confirmed_orders(&self) -> Vec<(OrderId, &'static str)> {
        let word = |model: &ClientModel| if model.is_deleted() { "deleted" } else { "created" };
        self.models().filter_map(|model| Some((OrderId::parse(model.id()?)?, word(model)))).collect()
    }

    /// The same, for the checker.
    pub(crate) fn confirmed(&self) -> Confirmed {
        confirmed(&self.confirmed_orders())
    }

    /// Compares the models with the stored orders: none is lost, duplicated or reverted.
    pub(crate) fn check(&self, orders: &[Order]) {
        let mut named: HashMap<&str, Vec<&Order>> = HashMap::new();
        for order in orders {
            named.entry(order.payload.external_id()).or_default().push(order);
        }
        for model in self.models() {
            model.check(&named.remove(model.external_id()).unwrap_or_default());
        }
        assert!(named.is_empty(), "no client created these: {:?}", named.keys());
    }
}

/// The confirmed orders of callers, for the checker.
pub(crate) fn confirmed(orders: &[(OrderId, &str)]) -> Confirmed {
    let mut confirmed = Confirmed::default();
    for (id, status) in orders {
        match *status {
            "deleted" => confirmed.add_deleted(*id),
            _ => confirmed.add_stored(*id),
        }
    }
    confirmed
}

impl Running {
    /// Waits until `count` more commands have been confirmed.
    pub(crate) async fn confirmed(&mut self, count: usize) {
        for _ in 0..count {
            let confirmation = within("a confirmation", self.confirmations.recv()).await;
            assert!(confirmation.is_some(), "every client has stopped");
        }
    }

    /// Discards the confirmations until now.
    pub(crate) fn discard_confirmations(&mut self) {
        while self.confirmations.try_recv().is_ok() {}
    }

    /// Waits until every client has stopped by itself.
    pub(crate) async fn ended(self) -> Load {
        Load { clients: within("the clients' end", self.clients.join_all()).await }
    }

    /// Stops every client after its next answer.
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
            let is_refused = matches!(ending, Ending::Refused | Ending::Rejected(_));
            self.endings.push(ending);
            if !work.switches_servers {
                return self;
            }
            if is_refused {
                sleep(PAUSE).await;
            }
        }
        self.endings.push(Ending::Exhausted);
        self
    }

    async fn request(&mut self, number: usize, open: &mut Option<Wire>, work: &Work) -> Result<(), Ending> {
        let mut wire = match open.take() {
            Some(wire) => wire,
            None => {
                let address = work.addresses.get(number).ok_or(Ending::Refused)?;
                Wire::connect(address).await.map_err(|_| Ending::Refused)?
            }
        };
        let (action, body) = self.next();
        let answer = within("an answer", wire.post(&body)).await.map_err(|broken| {
            self.record_no_answer(action);
            Ending::Broken(broken)
        })?;
        if answer.status >= 500 {
            let code = answer.text("code");
            if code == "outcome_unknown" {
                self.record_no_answer(action);
            }
            return Err(Ending::Rejected(code));
        }
        self.record_answer(action, &answer);
        // The test no longer receives confirmations once it has killed the process.
        let _ = work.confirmed.send(());
        *open = (!answer.closes()).then_some(wire);
        Ok(())
    }

    fn model(&mut self) -> &mut ClientModel {
        self.orders.last_mut().expect("a created order")
    }

    /// The next command. An order gets a creation and two updates, and every third order a deletion.
    fn next(&mut self) -> (Action, String) {
        self.step += 1;
        let (step, count) = (self.step, self.orders.len());
        let next = self.orders.last().and_then(|model| model.next(count.is_multiple_of(3)));
        let action = next.unwrap_or(Action::Create);
        if action == Action::Create {
            self.orders.push(ClientModel::new(format!("{}/order-{count}", self.name)));
        }
        (action, self.model().request_body(action, step))
    }

    fn record_no_answer(&mut self, action: Action) {
        let step = self.step;
        self.model().record_no_answer(action, step);
    }

    fn record_answer(&mut self, action: Action, answer: &Answer) {
        let step = self.step;
        let is_late = self.model().record_answer(action, step, answer);
        assert!(!is_late || self.accepts_202, "an order was not processed in time: {answer:?}");
        self.late += usize::from(is_late);
    }
}
