//! `orderstream up`: the whole system in one process.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use crate::app::{self, Parts};
use crate::config::Settings;
use crate::shutdown;

/// Opens everything, says where, and runs until a signal.
pub(super) fn run(settings: &Settings) -> Result<()> {
    // One processor is left to the thread that writes the store: measured on two, that is faster than sharing both.
    let threads = thread::available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = shutdown::on_signals()?;
        let parts = Parts::open(settings).await?;
        let listener = listen(settings).await?;
        greet(listener.local_addr()?, settings)?;
        app::up(parts, listener, settings, stop).await?;
        tracing::info!("stopped; nothing is lost");
        Ok(())
    });
    // Whatever blocks a thread for longer, a processor for instance, must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn listen(settings: &Settings) -> Result<TcpListener> {
    let address = SocketAddr::new(settings.bind, settings.api_port);
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}; set API_PORT to a free port, or BIND to an address of this machine"
        )
    })
}

fn greet(address: SocketAddr, settings: &Settings) -> Result<()> {
    let folder = std::path::absolute(&settings.data_dir)?;
    println!(
        "OrderStream listens on http://{address} and keeps its data in {folder}\n\n  \
         curl -i http://{address}/orders -d '{{\"user_id\":\"{EXAMPLE_USER}\",\"payload\":{{\"id\":\"A-1\",\"items\":[{{\"price\":9.90,\"qty\":2}}]}}}}'\n",
        folder = folder.display(),
    );
    Ok(())
}

const EXAMPLE_USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";
