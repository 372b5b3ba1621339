//! `orderstream up`, `api` and `worker`: opens the backends, says where it listens, and runs until a signal.

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

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Up,
    /// Takes orders and answers callers.
    Api,
    /// Processes orders.
    Worker,
}

impl Role {
    /// Its name, which is that of its command.
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
    // One processor is left to the threads beside the runtime, which write the store or speak to Kafka: measured on
    // two, that is faster than sharing both.
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.saturating_sub(1).max(1);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = shutdown::on_signals()?;
        if role == Role::Worker {
            let Some(parts) = open(settings, role, &stop).await? else { return Ok(()) };
            let health = health(settings)?;
            greet_as_worker(health.as_ref(), settings)?;
            app::worker_alone(parts, health, settings, stop).await?;
        } else {
            if role == Role::Up && settings.postgres_dsn.is_some() {
                // It waits for a server that is starting, which may be long.
                let migrated = tokio::select! {
                    migrated = app::migrate(settings, false) => migrated?,
                    () = stop.cancelled() => return Ok(()),
                };
                tracing::info!("{migrated}");
            }
            let Some(parts) = open(settings, role, &stop).await? else { return Ok(()) };
            let http = listen(settings, settings.api_port, "API_PORT").await?;
            let grpc = listen(settings, settings.grpc_port, "GRPC_PORT").await?;
            greet(http.local_addr()?, grpc.local_addr()?, settings)?;
            let listeners = Listeners { http, grpc: Some(grpc) };
            match role {
                Role::Up => app::up(parts, listeners, settings, stop).await?,
                Role::Api | Role::Worker => app::api_alone(parts, listeners, settings, stop).await?,
            }
        }
        tracing::info!("stopped; nothing is lost");
        Ok(())
    });
    // What blocks a thread for longer, a processor for instance, must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Opens the backends; `None` where a signal comes first, for a server that does not answer may take long.
async fn open(settings: &Settings, role: Role, stop: &CancellationToken) -> Result<Option<Backends>> {
    tokio::select! {
        parts = Backends::open(settings, role.name()) => parts.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// Where a worker says how it is; nowhere, with a warning, where another one of this machine has the port.
fn health(settings: &Settings) -> Result<Option<TcpListener>> {
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

/// Listens with a long queue: where a flood of connections fills it, the system drops the next one's first packet, and
/// that client tries again only after a second.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port that was left a moment ago can be taken again.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn greet_as_worker(health: Option<&TcpListener>, settings: &Settings) -> Result<()> {
    let (topic, group) = (&settings.orders_events_topic, &settings.worker_group);
    let health = match health {
        Some(listener) => format!("Its health is on http://{}/health/ready\n", listener.local_addr()?),
        None => String::new(),
    };
    output::announce(format!("OrderStream works on {topic} in {group}\n{health}"));
    Ok(())
}

fn greet(address: SocketAddr, grpc: SocketAddr, settings: &Settings) -> Result<()> {
    let place = match settings.postgres_dsn {
        Some(_) => "Postgres".to_owned(),
        None => std::path::absolute(&settings.data_dir)?.display().to_string(),
    };
    output::announce(format!(
        "OrderStream listens on http://{address} and keeps its data in {place}\n\
         gRPC, with health and reflection, is on {grpc}\n\n  \
         curl -i http://{address}/orders -d '{{\"user_id\":\"{EXAMPLE_USER}\",\"payload\":{{\"id\":\"A-1\",\"items\":[{{\"price\":9.90,\"qty\":2}}]}}}}'\n\n",
    ));
    Ok(())
}

const EXAMPLE_USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";
