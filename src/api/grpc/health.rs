//! `grpc.health.v1`: serving while orders are taken, exactly as `GET /health/ready` says. A check looks at that moment;
//! a watcher gets the changes, which are looked for once a second while there are watchers.

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

/// How long a watch may take; then it ends, and the client calls again.
const WATCH_TIMEOUT: Duration = Duration::from_hours(1);

/// How often watchers are looked for, and the parts are looked at for them.
const PACE: Duration = Duration::from_secs(1);

/// The service. Clones share what watchers are told.
#[derive(Clone)]
pub(super) struct Health {
    health: ProcessHealth,
    draining: CancellationToken,
    serving: watch::Sender<bool>,
    closing: CancellationToken,
}

impl Health {
    /// The health of that process, told to watchers until `closing`.
    pub(super) fn new(state: &ApiState, closing: CancellationToken) -> Health {
        let (health, draining) = (state.health.clone(), state.draining.clone());
        Health { health, draining, serving: watch::Sender::new(false), closing }
    }

    /// The service as the library serves it.
    pub(super) fn server(&self) -> HealthServer<Health> {
        HealthServer::new(self.clone())
    }

    /// Keeps watchers up to date until `closing`.
    pub(super) async fn follow(&self) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let follow = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = self.draining.cancelled() => break,
                }
                if self.serving.receiver_count() > 0 {
                    self.look().await;
                }
            }
            self.tell(false);
            self.closing.cancelled().await;
        };
        tokio::select! {
            () = follow => {}
            // Also where a look takes longer.
            () = self.closing.cancelled() => {}
        }
    }

    /// Checks now, and tells the watchers.
    async fn look(&self) -> bool {
        let serving = self.health.takes_orders().await;
        self.tell(serving);
        serving
    }

    fn tell(&self, serving: bool) {
        self.serving.send_if_modified(|told| std::mem::replace(told, serving) != serving);
    }
}

/// Whether it is a name that has a health: the whole server, or the service of orders.
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
        Ok(Response::new(answer(self.look().await)))
    }

    type WatchStream = Responses;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Responses>, Status> {
        let (closing, until) = (self.closing.clone(), Instant::now() + WATCH_TIMEOUT);
        if !is_known(&request) {
            // The protocol wants a watcher of an unknown name to be told so, and its stream to stay open.
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
        self.look().await;
        Ok(Response::new(Box::pin(unfold(Watcher { changes, told: None, closing, until }, Watcher::next))))
    }
}

/// A watcher.
struct Watcher {
    changes: watch::Receiver<bool>,
    /// What it was told last.
    told: Option<bool>,
    closing: CancellationToken,
    until: Instant,
}

impl Watcher {
    /// The next change; at `closing` "not serving", and then the end.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Watcher)> {
        let serving = loop {
            // What was seen last may be from before the end.
            let serving = *self.changes.borrow_and_update() && !self.closing.is_cancelled();
            if self.told != Some(serving) {
                break serving;
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep_until(self.until) => return None,
                () = self.closing.cancelled() => match self.told {
                    Some(false) => return None,
                    _ => break false,
                },
            }
        };
        self.told = Some(serving);
        Some((Ok(answer(serving)), self))
    }
}
