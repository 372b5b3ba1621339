//! A store that hangs: every caller is answered within its requested time, and the answer is true. The tests are the
//! same for both stores: Postgres is paused, and another program locks the embedded database.

mod answers;
mod disk;
mod health;

use std::net::SocketAddr;

use orderstream::api::Listeners;
use orderstream::app::{self, Backends};
use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::config::Settings;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use crate::clients::grpc::{self, Orders};
use crate::clients::http::Client;
use crate::harness::app::{Role, listen};
use crate::harness::servers::{Private, Server};
use crate::harness::system::settings;
use crate::harness::wait::until;

/// A store that can be made to hang.
pub(super) trait HangableStore: Sized + Send {
    /// An empty store, and the settings that name it.
    fn new(settings: Settings) -> (Self, Settings);

    /// The store takes connections and does not answer from now on.
    fn hang(&mut self);

    /// The store answers again.
    fn recover(&mut self);

    /// Whether reads hang, too.
    const READS_HANG: bool;
}

/// The embedded store. Another program holds its lock for writing while it hangs.
pub(super) struct Embedded {
    file: std::path::PathBuf,
    lock: Option<Connection>,
}

impl HangableStore for Embedded {
    const READS_HANG: bool = false;

    fn new(settings: Settings) -> (Embedded, Settings) {
        (Embedded { file: settings.data_dir.join("orders.db"), lock: None }, settings)
    }

    fn hang(&mut self) {
        let lock = Connection::open(&self.file).unwrap();
        lock.busy_timeout(crate::clients::http::GUARD).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.lock = Some(lock);
    }

    fn recover(&mut self) {
        self.lock.take().expect("a store that hangs").execute_batch("ROLLBACK").unwrap();
    }
}

/// A Postgres of one test, which is paused while it hangs.
pub(super) struct Postgres {
    servers: Private,
}

impl HangableStore for Postgres {
    const READS_HANG: bool = true;

    fn new(settings: Settings) -> (Postgres, Settings) {
        let servers = Private::new();
        let dsn = servers.up(Server::Postgres);
        (Postgres { servers }, Settings { postgres_dsn: Some(dsn.into()), ..settings })
    }

    fn hang(&mut self) {
        self.servers.pause("postgres");
    }

    fn recover(&mut self) {
        self.servers.resume("postgres");
    }
}

/// A running system on such a store.
pub(super) struct Hanging<P: HangableStore> {
    pub(super) client: Client,
    grpc: SocketAddr,
    pub(super) store: P,
    settings: Settings,
    role: Role,
    _folder: TempDir,
}

impl<P: HangableStore> Hanging<P> {
    pub(super) async fn start() -> Hanging<P> {
        let folder = TempDir::new().unwrap();
        let (store, settings) = P::new(settings(folder.path()));
        app::migrate(&settings, false).await.unwrap();
        let backends = Backends::open(&settings, "up").await.unwrap();
        let (listeners, address, grpc): (Listeners, _, _) = listen().await;
        let own = settings.clone();
        let role = Role::start(|stop| async move { app::up(backends, listeners, &own, stop).await });
        Hanging { client: Client::new(address), grpc, store, settings, role, _folder: folder }
    }

    pub(super) fn orders(&self) -> Orders {
        grpc::connect(self.grpc)
    }

    pub(super) fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Lets the store answer again, and waits until the service is ready.
    pub(super) async fn recover(&mut self) {
        self.store.recover();
        until("an api that is ready again", async || {
            (self.client.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// Stops the system when the checker finds that all orders are processed.
    pub(super) async fn finish(self) {
        let left = app::open_for_reading(&self.settings).await.unwrap();
        until("every order to be processed", async || {
            let options = Options { idle: true, amounts: true, listed: 10 };
            let report = verify(&*left.store, 0, Confirmed::default(), &options).await.unwrap();
            (report.found == 0).then_some(())
        })
        .await;
        left.store.close().await;
        left.bus.close().await;
        self.role.end().await;
    }
}

/// Work that runs in the background of a test and ends with it.
pub(super) fn in_background(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(work))
}
