//! The relay at the end of an api process: it waits for the events that it has handed to the bus and marks them
//! published, so that the next process does not publish them again. The bus of the test confirms events only when the
//! test allows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use orderstream::app::{self, Backends};
use orderstream::bus::{
    AckSink, Bus, Confirmations, Delivery, PublishError, Reply, SubscribeError, Subscription,
};
use orderstream::cache::NoCache;
use orderstream::config::Settings;
use orderstream::order::Event;
use orderstream::worker::AmountProcessor;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::clients::answers::create;
use crate::clients::http::Client;
use crate::harness::app::{Role, listen};
use crate::harness::schema::Schema;
use crate::harness::wait::until;

/// A broker that confirms no event until the test allows it.
struct SlowBroker {
    received: AtomicUsize,
    confirms: watch::Sender<bool>,
}

#[async_trait]
impl Bus for SlowBroker {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        self.received.fetch_add(batch.len(), Ordering::SeqCst);
        self.confirms.subscribe().wait_for(|confirms| *confirms).await.expect("a test that allows it");
        Confirmations::known(vec![Ok(()); batch.len()])
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        unreachable!("there is no worker")
    }

    async fn settle(&self, _: Vec<Delivery>) {}

    async fn reject(&self, _: Delivery, _: &str) -> Result<(), PublishError> {
        Ok(())
    }

    async fn acknowledge(&self, _: Vec<Reply>) -> Result<(), PublishError> {
        Ok(())
    }

    fn on_acks(&self, _: Arc<dyn AckSink>) {}

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        Ok(0)
    }

    async fn check(&self) -> Result<(), PublishError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_api_waits_for_unconfirmed_events_and_marks_them_published() {
    let schema = Schema::migrated().await;
    let broker = Arc::new(SlowBroker { received: AtomicUsize::new(0), confirms: watch::Sender::new(false) });
    let (listeners, address, _) = listen().await;
    let backends = Backends {
        store: Arc::new(schema.open()),
        bus: Arc::<SlowBroker>::clone(&broker),
        cache: Arc::new(NoCache),
        processor: Arc::new(AmountProcessor::default()),
    };
    let settings = Settings { ack_wait: false, ..Settings::default() };
    let api = Role::start(|stop| app::api(backends, listeners, &settings, stop));
    let client = Client::new(address);
    for number in 0..3 {
        create(&client, &number.to_string()).await;
    }
    until("the events to be handed over", async || {
        (broker.received.load(Ordering::SeqCst) == 3).then_some(())
    })
    .await;
    drop(client);
    let ending = tokio::spawn(api.end());
    until("the listener to be closed", async || TcpStream::connect(address).await.err()).await;
    broker.confirms.send_replace(true);
    ending.await.expect("an end in order");
    let left = schema.connect().await.query("SELECT 1 FROM orders_outbox", &[]).await.unwrap();
    assert_eq!(left.len(), 0, "entries of the outbox that the next process publishes again");
}
