//! The server: opens connections to the hosts of the DSN. Each host has its own time limit, so that a host that does
//! not answer does not delay the next one. A DSN from a file is read again when no connection can be opened, so that a
//! changed password does not need a restart.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{Dsn, DsnError, HostConfig, host_configs};
use super::pooler;
use super::session;
use super::session::{ANSWER_MARGIN, Purpose, open};
use super::tls;
use crate::config::ReadFrom;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::options::Options;

/// How long a host is tried alone, at most, before the next host of the DSN is tried in parallel.
const HEAD_START: Duration = Duration::from_secs(1);

/// The server that connections go to, and the settings that they share.
pub(in crate::store::postgres) struct Server {
    // std RwLock: held to clone or replace a pointer, never across .await
    target: RwLock<Arc<Target>>,
    dsn_file: Option<PathBuf>,
    read_from: ReadFrom,
    pub(in crate::store::postgres) statement_timeout: Duration,
    pub(in crate::store::postgres) connect_timeout: Duration,
    pub(in crate::store::postgres) history: bool,
    closed: AtomicBool,
    /// Whether a write failed because the disk was full, and no check has found space since.
    full: AtomicBool,
}

/// A DSN, parsed.
struct Target {
    dsn: String,
    hosts: Vec<HostConfig>,
    tls: MakeRustlsConnect,
    /// The host that was the primary when the last connection was opened; it is tried first.
    primary: AtomicUsize,
    /// Whether it is known that no pooler shares connections between transactions.
    is_unshared: AtomicBool,
}

impl Target {
    fn new(dsn: &str, statement_timeout: Duration) -> Result<Target, DsnError> {
        let parsed = Dsn::parse(dsn)?;
        let tls = tls::connector(&parsed)?;
        let mut config = parsed.config;
        // A lost peer is noticed in well under a minute.
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(5));
        config.keepalives_retries(3).tcp_user_timeout(statement_timeout + ANSWER_MARGIN);
        // A name may have several addresses; the driver tries them one after the other.
        config.connect_timeout(HEAD_START);
        if config.get_application_name().is_none() {
            config.application_name("orderstream");
        }
        Ok(Target {
            dsn: dsn.to_owned(),
            hosts: host_configs(&config),
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

    /// The message for a failure to connect, with the hosts.
    pub(in crate::store::postgres) fn unreachable(&self, failure: &Failure) -> String {
        let target = self.target();
        let hosts: Vec<&str> = target.hosts.iter().map(|host| host.name.as_str()).collect();
        format!("Postgres at {} (POSTGRES_DSN): {failure}", hosts.join(", "))
    }

    /// Refuses further connections.
    pub(in crate::store::postgres) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether further connections are refused.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the server's disk was full at the last write.
    pub(in crate::store::postgres) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Sets whether the server's disk is full.
    pub(in crate::store::postgres) fn set_full(&self, is_full: bool) {
        self.full.store(is_full, Ordering::Relaxed);
    }

    /// The purpose of a connection for reads, by the settings.
    pub(in crate::store::postgres) fn reads(&self) -> Purpose {
        match self.read_from {
            ReadFrom::Primary => Purpose::Read,
            ReadFrom::Any => Purpose::ReadAnywhere,
        }
    }

    /// The longest time that opening a connection may take.
    pub(super) fn longest_connect(&self) -> Duration {
        let others = self.target().hosts.len().saturating_sub(1);
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        self.connect_timeout.saturating_add(HEAD_START.saturating_mul(others))
    }

    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a connection, with the time limit of each host. After a failure the file of the DSN is read again.
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

    /// The new content of the DSN's file, if it has changed.
    fn changed(&self, known: &Target) -> Option<Arc<Target>> {
        let file = self.dsn_file.as_deref()?;
        // Blocking is fine here: the file has one line, and a connection has just failed.
        let text = std::fs::read_to_string(file)
            .inspect_err(|error| tracing::warn!(%error, "the file of POSTGRES_DSN cannot be read; the DSN from before stays in use"))
            .ok()?;
        let dsn = text.trim_end_matches(['\r', '\n']);
        let current = self.target();
        if current.dsn == dsn {
            // Another connection may have read the new DSN already.
            return (current.dsn != known.dsn).then_some(current);
        }
        let target = Target::new(dsn, self.statement_timeout)
            .inspect_err(|error| tracing::warn!("POSTGRES_DSN was changed in its file and cannot be used; the DSN from before stays in use: {error}"))
            .ok()?;
        let target = Arc::new(target);
        *self.target.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&target);
        tracing::info!("POSTGRES_DSN was read again from its file");
        Some(target)
    }

    /// Tries the hosts in their order, the last known primary first. A host that has not answered after a while is
    /// tried in parallel with the next one.
    async fn connect_to_any(&self, target: &Target, purpose: Purpose) -> Result<Client, Failure> {
        let count = target.hosts.len();
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
                Ok(Some((at, Err(failure)))) => failures.push((target.hosts[at].name.clone(), failure)),
                Ok(None) if is_last => return Err(Failure::of_hosts(failures)),
                Ok(None) => {}
            }
        }
    }

    async fn connect_to(&self, target: &Target, at: usize, purpose: Purpose) -> Result<Client, Failure> {
        let config = &target.hosts[at].config;
        let connecting = async {
            if !target.is_unshared.load(Ordering::Relaxed) {
                // Before anything is set: other clients would find the settings on a shared connection.
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
