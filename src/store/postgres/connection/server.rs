//! Where connections go, and what a session is set to before it does any work. Each host of a DSN has its own limit
//! of time: one that is silent keeps nothing from the next. Where a DSN comes from a file, the file is read again when
//! no connection can be opened, so that a changed password needs no restart.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{Dsn, DsnError, Place, places};
use super::pooler;
use super::session;
use super::session::{Purpose, SILENCE, open};
use super::tls;
use crate::config::ReadFrom;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::options::Options;

/// How long a host is tried alone, at most, before the next one of the DSN is tried beside it.
const HEAD_START: Duration = Duration::from_secs(1);

/// Where connections go, and what they all share.
pub(in crate::store::postgres) struct Server {
    // std RwLock: held to copy or replace a pointer, never across .await
    target: RwLock<Arc<Target>>,
    dsn_file: Option<PathBuf>,
    read_from: ReadFrom,
    pub(in crate::store::postgres) statement_timeout: Duration,
    pub(in crate::store::postgres) connect_timeout: Duration,
    pub(in crate::store::postgres) history: bool,
    closed: AtomicBool,
    /// Whether a write failed because the disk was full, and no check has found room since.
    full: AtomicBool,
}

/// What a DSN says.
struct Target {
    dsn: String,
    places: Vec<Place>,
    tls: MakeRustlsConnect,
    /// The place that was the primary when a connection was opened last: it is tried first.
    primary: AtomicUsize,
    /// Whether connections are known to be the server's own, and not shared by transactions of others.
    is_unshared: AtomicBool,
}

impl Target {
    fn new(dsn: &str, statement_timeout: Duration) -> Result<Target, DsnError> {
        let parsed = Dsn::parse(dsn)?;
        let tls = tls::connector(&parsed)?;
        let mut config = parsed.config;
        // A peer that vanished without a word is noticed in well under a minute.
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3).tcp_user_timeout(statement_timeout + SILENCE);
        // A name may stand for several addresses; the driver tries them one after the other.
        config.connect_timeout(HEAD_START);
        if config.get_application_name().is_none() {
            config.application_name("orderstream");
        }
        Ok(Target {
            dsn: dsn.to_owned(),
            places: places(&config),
            tls,
            primary: AtomicUsize::new(0),
            is_unshared: AtomicBool::new(false),
        })
    }
}

impl Server {
    pub(in crate::store::postgres) fn new(options: &Options) -> Result<Server, DsnError> {
        Ok(Server {
            target: RwLock::new(Arc::new(Target::new(&options.dsn, options.statement_timeout)?)),
            dsn_file: options.dsn_file.clone(),
            read_from: options.read_from,
            statement_timeout: options.statement_timeout,
            connect_timeout: options.connect_timeout,
            history: options.history,
            closed: AtomicBool::new(false),
            full: AtomicBool::new(false),
        })
    }

    /// Why there is no connection, and where to.
    pub(in crate::store::postgres) fn unreachable(&self, failure: &Failure) -> String {
        let target = self.target();
        let places: Vec<&str> = target.places.iter().map(|place| place.name.as_str()).collect();
        format!("Postgres at {} (POSTGRES_DSN): {failure}", places.join(", "))
    }

    /// Refuses further connections.
    pub(in crate::store::postgres) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether further connections are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the disk was full when something was to be written.
    pub(in crate::store::postgres) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Notes whether the disk is full.
    pub(in crate::store::postgres) fn set_full(&self, is_full: bool) {
        self.full.store(is_full, Ordering::Relaxed);
    }

    /// What a connection for reads is for, by the settings.
    pub(in crate::store::postgres) fn reads(&self) -> Purpose {
        match self.read_from {
            ReadFrom::Primary => Purpose::Read,
            ReadFrom::Any => Purpose::ReadAnywhere,
        }
    }

    /// The longest time that opening a connection takes.
    pub(super) fn longest_connect(&self) -> Duration {
        let others = self.target().places.len().saturating_sub(1);
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        self.connect_timeout.saturating_add(HEAD_START.saturating_mul(others))
    }

    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a connection, within the time that opening may take on each host.
    pub(in crate::store::postgres) async fn connect(&self, purpose: Purpose) -> Result<Client, Failure> {
        let target = self.target();
        let failure = match self.connect_to_any(&target, purpose).await {
            Ok(client) => return Ok(client),
            Err(failure) => failure,
        };
        match self.changed(&target) {
            Some(target) => self.connect_to_any(&target, purpose).await,
            None => Err(failure),
        }
    }

    /// What the file of the DSN says by now, if that is something else.
    fn changed(&self, known: &Target) -> Option<Arc<Target>> {
        let file = self.dsn_file.as_deref()?;
        // A file of one line, after a connection failed: no caller waits for it noticeably.
        let text = std::fs::read_to_string(file)
            .inspect_err(|error| tracing::warn!(%error, "the file of POSTGRES_DSN cannot be read again"))
            .ok()?;
        let dsn = text.trim_end_matches(['\r', '\n']);
        let current = self.target();
        if current.dsn == dsn {
            // Another connection may have read it a moment ago.
            return (current.dsn != known.dsn).then_some(current);
        }
        let target = Target::new(dsn, self.statement_timeout)
            .inspect_err(|error| tracing::warn!("POSTGRES_DSN was changed in its file: {error}"))
            .ok()?;
        let target = Arc::new(target);
        *self.target.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&target);
        tracing::info!("POSTGRES_DSN was read again from its file");
        Some(target)
    }

    /// Tries the hosts in their order, the last known primary first. A host that has not answered after a while is
    /// waited for beside the next one.
    async fn connect_to_any(&self, target: &Target, purpose: Purpose) -> Result<Client, Failure> {
        let count = target.places.len();
        let first = match purpose {
            Purpose::Write | Purpose::Read => target.primary.load(Ordering::Relaxed),
            Purpose::ReadAnywhere => 0,
        };
        let mut waiting = (0..count).map(|at| (first + at) % count);
        let (mut attempts, mut failures) = (FuturesUnordered::new(), Vec::new());
        loop {
            let next = waiting.next();
            let is_last = next.is_none();
            if let Some(at) = next {
                attempts.push(async move { (at, self.connect_to(target, at, purpose).await) });
            }
            let limit = if is_last { Duration::MAX } else { HEAD_START.min(self.connect_timeout / 2) };
            match timeout(limit, attempts.next()).await {
                Err(_) => {}
                Ok(Some((at, Ok(client)))) => {
                    if purpose != Purpose::ReadAnywhere {
                        target.primary.store(at, Ordering::Relaxed);
                    }
                    return Ok(client);
                }
                Ok(Some((at, Err(failure)))) => failures.push((target.places[at].name.clone(), failure)),
                Ok(None) if is_last => return Err(Failure::of_hosts(failures)),
                Ok(None) => {}
            }
        }
    }

    async fn connect_to(&self, target: &Target, at: usize, purpose: Purpose) -> Result<Client, Failure> {
        let config = &target.places[at].config;
        let connecting = async {
            if !target.is_unshared.load(Ordering::Relaxed) {
                // Before anything is set: what is set on a shared connection, others find there.
                pooler::refuse_shared(config, &target.tls).await?;
                target.is_unshared.store(true, Ordering::Relaxed);
            }
            let client = open(config, &target.tls).await?;
            session::set_up(&client, purpose, self.statement_timeout).await?;
            Ok(client)
        };
        timeout(self.connect_timeout, connecting).await.unwrap_or(Err(Failure::Timeout))
    }
}
