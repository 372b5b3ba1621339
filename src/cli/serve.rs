//! `orderstream up`, `api` and `worker`: opens the backends, prints where the process listens, and runs until a signal.
//! It relies on `app` for the roles. It never serves a port before its backends are open. A signal also ends the wait
//! for a server that does not answer, and the migration with which `up` begins on Postgres. A port that is taken is an
//! error, except for a worker's health. Code that still blocks a thread after the roles have ended delays the end by a
//! second at most.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::{descriptors, output};
use crate::api::Listeners;
use crate::app::{self, Backends};
use crate::config::Settings;
use crate::shutdown;

/// How many connections wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The api and the worker.
    Up,
    /// The api: takes orders and answers callers.
    Api,
    /// The worker: processes orders.
    Worker,
}

impl Role {
    /// The name of the role and of its command.
    fn name(self) -> &'static str {
        match self {
            Role::Up => "up",
            Role::Api => "api",
            Role::Worker => "worker",
        }
    }
}

/// Runs a process of that role until a signal.
pub(super) fn run(settings: &Settings, role: Role) -> Result<()> {
    if role != Role::Up {
        app::require_shared_backends(settings, role.name())?;
    }
    let settings = &descriptors::prepare(settings, role != Role::Worker);
    // One processor stays free for the threads outside of the runtime, which write the store or talk to Kafka. Measured
    // on two processors, this is faster than a runtime thread on each.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.saturating_sub(1).max(1);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = shutdown::on_signals()?;
        if role == Role::Worker {
            let Some(backends) = open(settings, role, &stop).await? else { return Ok(()) };
            let health = listen_for_health(settings)?;
            announce_worker(health.as_ref(), settings)?;
            app::worker_alone(backends, health, settings, stop).await?;
        } else {
            if role == Role::Up && settings.postgres_dsn.is_some() {
                // A migration waits for a Postgres that is starting, so a signal must be able to end it.
                let migrated = tokio::select! {
                    migrated = app::migrate(settings, false) => migrated?,
                    () = stop.cancelled() => return Ok(()),
                };
                tracing::info!("{migrated}");
            }
            let Some(backends) = open(settings, role, &stop).await? else { return Ok(()) };
            let http = listen(settings, settings.api_port, "API_PORT").await?;
            let grpc = listen(settings, settings.grpc_port, "GRPC_PORT").await?;
            announce_api(http.local_addr()?, grpc.local_addr()?, settings)?;
            let listeners = Listeners { http, grpc: Some(grpc) };
            match role {
                Role::Up => app::up(backends, listeners, settings, stop).await?,
                Role::Api | Role::Worker => app::api_alone(backends, listeners, settings, stop).await?,
            }
        }
        tracing::info!("stopped in order; orders that are still pending are processed after the next start");
        Ok(())
    });
    // Code that still blocks a thread, such as a processor's, must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Opens the backends. Returns `None` where a signal comes first: a server that does not answer may take long.
async fn open(settings: &Settings, role: Role, stop: &CancellationToken) -> Result<Option<Backends>> {
    tokio::select! {
        backends = Backends::open(settings, role.name()) => backends.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// The listener of a worker's health checks. Returns `None`, with a warning, where another process has the port:
/// several workers on one machine is a normal setup.
fn listen_for_health(settings: &Settings) -> Result<Option<TcpListener>> {
    let address = SocketAddr::new(settings.bind, settings.worker_health_port);
    match bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            tracing::warn!(
                "another process listens on {address}: this worker does not serve its health; set WORKER_HEALTH_PORT to a \
                 free port, or to 0 for any"
            );
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| cannot_listen(address, "WORKER_HEALTH_PORT")),
    }
}

async fn listen(settings: &Settings, port: u16, key: &str) -> Result<TcpListener> {
    let address = SocketAddr::new(settings.bind, port);
    bind(address).with_context(|| cannot_listen(address, key))
}

fn cannot_listen(address: SocketAddr, key: &str) -> String {
    format!("cannot listen on {address}; set {key} to a free port, or BIND to an address of this machine")
}

/// Listens with a long queue. Where connections fill the queue, the system drops the next one's first packet, and that
/// client tries again only after a second.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart takes its port again at once, while old connections are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn announce_worker(health: Option<&TcpListener>, settings: &Settings) -> Result<()> {
    let (topic, group) = (&settings.orders_events_topic, &settings.worker_group);
    let health = match health {
        Some(listener) => format!("Its health is on http://{}/health/ready\n", listener.local_addr()?),
        None => String::new(),
    };
    output::announce(format!("OrderStream processes {topic} in the group {group}\n{health}"));
    Ok(())
}

fn announce_api(address: SocketAddr, grpc: SocketAddr, settings: &Settings) -> Result<()> {
    let store = match settings.postgres_dsn {
        Some(_) => "Postgres".to_owned(),
        None => std::path::absolute(&settings.data_dir)?.display().to_string(),
    };
    output::announce(format!(
        "OrderStream listens on http://{address} and keeps its data in {store}\n\
         gRPC, with health and reflection, is on {grpc}\n\n  \
         curl -i http://{address}/orders -d '{{\"user_id\":\"{EXAMPLE_USER}\",\"payload\":{{\"id\":\"A-1\",\"items\":[{{\"price\":9.90,\"qty\":2}}]}}}}'\n\n",
    ));
    Ok(())
}

/// The user of the example that a server prints at its start.
const EXAMPLE_USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";
