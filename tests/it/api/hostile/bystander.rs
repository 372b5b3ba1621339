//! The bystander: a caller who creates orders over HTTP and gRPC and asks for liveness, again and again, while other
//! clients misbehave. What it saw is the measure of most tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::LIVENESS;
use super::peer::connect_from;
use super::target::Target;
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::clients::grpc;
use crate::clients::http::Answer;
use crate::harness::wait::within;

/// The address of the bystander.
pub(super) const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// How long a bystander waits for any one answer; the service answers long before that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A bystander at work. It works until it is asked what it saw.
pub(super) struct BystanderClient {
    ask: oneshot::Sender<()>,
    work: JoinHandle<Report>,
}

/// What a bystander saw.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How many orders it created over HTTP.
    pub(super) created: usize,
    /// How many orders it created over gRPC.
    pub(super) created_by_grpc: usize,
    /// How often liveness was answered in time.
    pub(super) alive: usize,
    /// The longest that liveness took.
    pub(super) slowest: Duration,
    /// Every answer that was not the one it hoped for, and every one that did not come.
    pub(super) complaints: Vec<String>,
}

impl BystanderClient {
    /// Begins to work. Every request of HTTP has a connection of its own, as those of a new client or a probe have.
    pub(super) fn of(target: &Target) -> BystanderClient {
        let (http, grpc) = (target.http, target.grpc);
        let (ask, mut asked) = oneshot::channel();
        let work = tokio::spawn(async move {
            let mut report = Report::default();
            let mut orders = grpc::connect(grpc);
            // At least one round, however soon it is asked.
            loop {
                report.probe(http).await;
                report.create(http).await;
                match timeout(ANSWER_TIMEOUT, orders.upsert_order(grpc::creation(r#"{"id":"bystander"}"#)))
                    .await
                {
                    Ok(Ok(_)) => report.created_by_grpc += 1,
                    Ok(Err(status)) => report.complaints.push(format!("gRPC: {status:?}")),
                    Err(_) => report.complaints.push("gRPC: no answer".to_owned()),
                }
                if asked.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
                    return report;
                }
            }
        });
        BystanderClient { ask, work }
    }

    /// Waits for the round in hand, and answers what it saw.
    pub(super) async fn report(self) -> Report {
        let _ = self.ask.send(());
        within("the bystander's report", self.work).await.expect("a bystander does not panic")
    }
}

impl Report {
    async fn probe(&mut self, http: SocketAddr) {
        let begun = Instant::now();
        match timeout(LIVENESS, exchange(http, "GET /health/live HTTP/1.1\r\n", "")).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                self.alive += 1;
                self.slowest = self.slowest.max(begun.elapsed());
            }
            Ok(answer) => self.complaints.push(format!("liveness: {answer:?}")),
            Err(_) => self.complaints.push(format!("liveness: no answer within {LIVENESS:?}")),
        }
    }

    async fn create(&mut self, http: SocketAddr) {
        let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"bystander"}}}}"#);
        match timeout(ANSWER_TIMEOUT, exchange(http, "POST /orders HTTP/1.1\r\n", &body)).await {
            Ok(Ok(answer)) if answer.status == 201 => self.created += 1,
            Ok(answer) => self.complaints.push(format!("POST /orders: {answer:?}")),
            Err(_) => self.complaints.push("POST /orders: no answer".to_owned()),
        }
    }

    /// Asserts that the bystander got what it asked for, every time, and at least once.
    pub(super) fn assert_undisturbed(&self) {
        assert!(self.complaints.is_empty(), "the bystander was disturbed: {self:#?}");
        assert!(self.alive > 0 && self.created > 0 && self.created_by_grpc > 0, "{self:?}");
    }
}

/// One request on a connection of its own, from the bystander's address.
pub(super) async fn exchange(http: SocketAddr, line: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = connect_from(BYSTANDER, http).await?;
    let head = format!(
        "{line}host: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Answer::read(&bytes))
}

/// Creates orders of a MB each for one user, and answers the id of the last.
pub(super) async fn create_large(http: SocketAddr, count: usize) -> String {
    let body = format!(r#"{{"user_id":"{USER}","payload":"{}"}}"#, "x".repeat(1_000_000));
    let mut id = String::new();
    for _ in 0..count {
        let created = exchange(http, "POST /orders HTTP/1.1\r\n", &body);
        let answer = within("an answer", created).await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        id = order_id(&answer).to_string();
    }
    id
}
