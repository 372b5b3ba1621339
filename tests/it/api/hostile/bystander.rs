//! The bystander: a caller that repeatedly creates orders over HTTP and gRPC and checks liveness while other clients
//! misbehave. Most tests assert on its report: each answer arrived in time and was the expected one.

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

/// A running bystander. It runs until its report is requested.
pub(super) struct BystanderClient {
    stop: oneshot::Sender<()>,
    work: JoinHandle<Report>,
}

/// The observations of a bystander.
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
    /// The answers that were not the expected ones, and the answers that did not arrive.
    pub(super) failures: Vec<String>,
}

impl BystanderClient {
    /// Starts a bystander. Each request over HTTP has its own connection, like those of a new client or a probe.
    pub(super) fn start(target: &Target) -> BystanderClient {
        let (http, grpc) = (target.http, target.grpc);
        let (stop, mut stopped) = oneshot::channel();
        let work = tokio::spawn(async move {
            let mut report = Report::default();
            let mut orders = grpc::connect(grpc);
            // At least once, however soon the report is requested.
            loop {
                report.probe(http).await;
                report.create(http).await;
                match timeout(ANSWER_TIMEOUT, orders.upsert_order(grpc::creation(r#"{"id":"bystander"}"#)))
                    .await
                {
                    Ok(Ok(_)) => report.created_by_grpc += 1,
                    Ok(Err(status)) => report.failures.push(format!("gRPC: {status:?}")),
                    Err(_) => report.failures.push("gRPC: no answer".to_owned()),
                }
                if stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
                    return report;
                }
            }
        });
        BystanderClient { stop, work }
    }

    /// Waits for the requests in flight, and returns the report.
    pub(super) async fn report(self) -> Report {
        let _ = self.stop.send(());
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
            Ok(answer) => self.failures.push(format!("liveness: {answer:?}")),
            Err(_) => self.failures.push(format!("liveness: no answer within {LIVENESS:?}")),
        }
    }

    async fn create(&mut self, http: SocketAddr) {
        let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"bystander"}}}}"#);
        match timeout(ANSWER_TIMEOUT, exchange(http, "POST /orders HTTP/1.1\r\n", &body)).await {
            Ok(Ok(answer)) if answer.status == 201 => self.created += 1,
            Ok(answer) => self.failures.push(format!("POST /orders: {answer:?}")),
            Err(_) => self.failures.push("POST /orders: no answer".to_owned()),
        }
    }

    /// Asserts that the bystander got an expected answer each time, and at least one of each kind.
    pub(super) fn assert_undisturbed(&self) {
        assert!(self.failures.is_empty(), "the bystander was disturbed: {self:#?}");
        assert!(self.alive > 0 && self.created > 0 && self.created_by_grpc > 0, "{self:?}");
    }
}

/// Sends one request on its own connection, from the bystander's address.
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

/// Creates orders of a MB each for one user, and returns the id of the last.
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
