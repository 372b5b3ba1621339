//! `grpc.health.v1`: `SERVING` while orders are taken, exactly as `GET /health/ready`. A check determines the health at
//! that moment; a watcher gets the changes, which are determined once a second while there are watchers. Watchers get
//! `NOT_SERVING` when the process begins to stop, and their streams end when its ports close. A watch ends after an
//! hour, so that no client holds a permit for watches without end. An unknown service is `NOT_FOUND` for a check and
//! `SERVICE_UNKNOWN` for a watch, as the protocol requires.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::orders::Server;
use crate::api::health::ProcessHealth;
use crate::api::state::ApiState;

/// The longest time of a watch; then it ends, and the client calls again.
const WATCH_TIMEOUT: Duration = Duration::from_hours(1);

/// The pause between two checks for watchers.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// The service. Clones share the state that watchers receive.
#[derive(Clone)]
pub(super) struct Health {
    health: ProcessHealth,
    draining: CancellationToken,
    serving: watch::Sender<bool>,
    closing: CancellationToken,
}

impl Health {
    /// The health of that process. Watchers are served until `closing` is cancelled.
    pub(super) fn new(state: &ApiState, closing: CancellationToken) -> Health {
        let (health, draining) = (state.health.clone(), state.draining.clone());
        Health { health, draining, serving: watch::Sender::new(false), closing }
    }

    /// The service as the library serves it.
    pub(super) fn server(&self) -> HealthServer<Health> {
        HealthServer::new(self.clone())
    }

    /// Keeps watchers up to date until `closing` is cancelled.
    pub(super) async fn follow(&self) {
        let mut ticks = interval(WATCH_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let follow = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.draining.cancelled() => break,
                }
                if self.serving.receiver_count() > 0 {
                    self.check_and_publish().await;
                }
            }
            self.publish(false);
            self.closing.cancelled().await;
        };
        tokio::select! {
            () = follow => {}
            // This also ends a check that is still running.
            () = self.closing.cancelled() => {}
        }
    }

    /// Checks now, and publishes the result to the watchers.
    async fn check_and_publish(&self) -> bool {
        let serving = self.health.takes_orders().await;
        self.publish(serving);
        serving
    }

    fn publish(&self, serving: bool) {
        self.serving.send_if_modified(|published| std::mem::replace(published, serving) != serving);
    }
}

/// Whether the request names a known service: the whole server, or the service of orders.
fn is_known(request: &Request<HealthCheckRequest>) -> bool {
    matches!(request.get_ref().service.as_str(), "" | Server::NAME)
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

/// The responses that a watcher gets.
type Responses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request) {
            let detail = format!("service: leave it empty, or send {}", Server::NAME);
            return Err(Status::not_found(detail));
        }
        Ok(Response::new(answer(self.check_and_publish().await)))
    }

    type WatchStream = Responses;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Responses>, Status> {
        let (closing, until) = (self.closing.clone(), Instant::now() + WATCH_TIMEOUT);
        if !is_known(&request) {
            // The protocol requires `SERVICE_UNKNOWN` for an unknown name, and an open stream after it.
            let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
            let once = unfold(Some(unknown), move |first| {
                let closing = closing.clone();
                async move {
                    match first {
                        Some(unknown) => Some((Ok(unknown), None)),
                        None => {
                            let _ = timeout_at(until, closing.cancelled()).await;
                            None
                        }
                    }
                }
            });
            return Ok(Response::new(Box::pin(once)));
        }
        let changes = self.serving.subscribe();
        self.check_and_publish().await;
        Ok(Response::new(Box::pin(unfold(Watcher { changes, last: None, closing, until }, Watcher::next))))
    }
}

/// A watcher.
struct Watcher {
    changes: watch::Receiver<bool>,
    /// The last state that was sent.
    last: Option<bool>,
    closing: CancellationToken,
    until: Instant,
}

impl Watcher {
    /// The next change; `NOT_SERVING` once `closing` is cancelled, and then the end.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Watcher)> {
        let serving = loop {
            // The published state may be older than the cancellation.
            let serving = *self.changes.borrow_and_update() && !self.closing.is_cancelled();
            if self.last != Some(serving) {
                break serving;
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(self.until) => return None,
                () = self.closing.cancelled() => match self.last {
                    Some(false) => return None,
                    _ => break false,
                },
            }
        };
        self.last = Some(serving);
        Some((Ok(answer(serving)), self))
    }
}
