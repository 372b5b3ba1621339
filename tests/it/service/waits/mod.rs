//! A store that hangs: every caller is answered within the time that it asked for, and told the truth. The same for
//! both stores: Postgres stands still, and the embedded database is locked by another program.

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
pub(super) trait Place: Sized + Send {
    /// An empty one, and the settings that lead to it.
    fn new(settings: Settings) -> (Self, Settings);

    /// It takes connections and answers nothing from now on.
    fn hang(&mut self);

    /// It goes on.
    fn recover(&mut self);

    /// Whether reads hang with it.
    const READS_HANG: bool;
}

/// The embedded store. Another program holds its lock for writing while it hangs.
pub(super) struct Embedded {
    file: std::path::PathBuf,
    lock: Option<Connection>,
}

impl Place for Embedded {
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

/// A Postgres of the test's own, which stands still while it hangs.
pub(super) struct Postgres {
    servers: Private,
}

impl Place for Postgres {
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
pub(super) struct Hanging<P: Place> {
    pub(super) client: Client,
    grpc: SocketAddr,
    pub(super) place: P,
    settings: Settings,
    role: Role,
    _folder: TempDir,
}

impl<P: Place> Hanging<P> {
    pub(super) async fn start() -> Hanging<P> {
        let folder = TempDir::new().unwrap();
        let (place, settings) = P::new(settings(folder.path()));
        app::migrate(&settings, false).await.unwrap();
        let parts = Backends::open(&settings, "up").await.unwrap();
        let (listeners, address, grpc): (Listeners, _, _) = listen().await;
        let own = settings.clone();
        let role = Role::start(|stop| async move { app::up(parts, listeners, &own, stop).await });
        Hanging { client: Client::new(address), grpc, place, settings, role, _folder: folder }
    }

    pub(super) fn orders(&self) -> Orders {
        grpc::connect(self.grpc)
    }

    pub(super) fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// The store goes on, and the service says so.
    pub(super) async fn recover(&mut self) {
        self.place.recover();
        until("an api that is ready again", async || {
            (self.client.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// Stops the system when all is processed, and has the checker look.
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

/// Work that goes on beside a test and ends with it.
pub(super) fn beside(work: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(work))
}
