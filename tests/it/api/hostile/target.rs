//! The target: `orderstream up` as a child process on free ports, with its own data folder or schema. A test chooses
//! how it is started (settings, file descriptors, the destination of its log), and inspects its memory and its log.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::MEMORY;
use super::peer::reserve_descriptors;
use crate::harness::child::command;
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// The store of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// The embedded store.
    Embedded,
    /// Its own schema in the Postgres that the tests share.
    Postgres,
}

/// All stores, for tests that run on each.
pub(super) const STORES: [Store; 2] = [Store::Embedded, Store::Postgres];

/// How a target is started.
pub(super) struct Launch {
    store: Store,
    dsn: Option<String>,
    settings: Vec<(&'static str, String)>,
    limits: String,
    log: Option<PipeWriter>,
}

/// A running target. It is killed when it is dropped.
pub(super) struct Target {
    /// Its address of HTTP.
    pub(super) http: SocketAddr,
    /// Its address of gRPC.
    pub(super) grpc: SocketAddr,
    process: Child,
    log: PathBuf,
    // Kept open, so that a test decides where a pipe ends.
    _stdout: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
    _schema: Option<Schema>,
}

impl Launch {
    /// A target on that store, with the settings of the other tests.
    pub(super) fn on(store: Store) -> Launch {
        Launch { store, dsn: None, settings: Vec::new(), limits: String::new(), log: None }
    }

    /// Uses that DSN of Postgres instead of one with its own schema.
    pub(super) fn dsn(self, dsn: String) -> Launch {
        Launch { dsn: Some(dsn), ..self }
    }

    /// Sets a setting, named by its variable.
    pub(super) fn set(mut self, name: &'static str, value: impl Into<String>) -> Launch {
        self.settings.push((name, value.into()));
        self
    }

    /// Limits the file descriptors: the process may raise the soft limit to the hard one.
    pub(super) fn descriptors(self, soft: u32, hard: u32) -> Launch {
        Launch { limits: format!("ulimit -Sn {soft} && ulimit -Hn {hard} && "), ..self }
    }

    /// Writes the log to a pipe instead of a file.
    pub(super) fn log_to(self, pipe: PipeWriter) -> Launch {
        Launch { log: Some(pipe), ..self }
    }

    /// Starts it, and waits until it has printed its addresses.
    pub(super) async fn start(self) -> Target {
        reserve_descriptors();
        let folder = TempDir::new().expect("a folder");
        let log = folder.path().join("target.log");
        let schema = match self.store {
            Store::Postgres if self.dsn.is_none() => Some(Schema::empty().await),
            _ => None,
        };
        let mut command = command("sh", folder.path());
        let script = format!("{}exec \"$@\"", self.limits);
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_orderstream"), "up"]);
        if let Some(dsn) = self.dsn.or_else(|| Some(schema.as_ref()?.dsn.clone())) {
            command.env("POSTGRES_DSN", dsn);
        }
        match self.log {
            Some(pipe) => command.stderr(pipe),
            None => command.stderr(File::create(&log).expect("a log")),
        };
        command.envs(self.settings);
        let (process, mut stdout) = spawn(command);
        let http = address_after(&mut stdout, "OrderStream listens on http://").await;
        let grpc = address_after(&mut stdout, "gRPC, with health and reflection, is on ").await;
        Target { http, grpc, process, log, _stdout: stdout, _folder: folder, _schema: schema }
    }
}

fn spawn(mut command: Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the target starts");
    let stdout = process.stdout.take().expect("a piped output");
    (process, BufReader::new(stdout).lines())
}

/// The address after these words in the next line that has them.
async fn address_after(stdout: &mut Lines<BufReader<ChildStdout>>, words: &str) -> SocketAddr {
    within(words, async {
        loop {
            let line = stdout.next_line().await.expect("an output of text").expect("a line with its address");
            if let Some((_, rest)) = line.split_once(words) {
                let address = rest.split(' ').next().expect("an address follows");
                return address.parse().expect("an address follows");
            }
        }
    })
    .await
}

impl Target {
    /// The number of the process.
    pub(super) fn id(&self) -> u32 {
        self.process.id().expect("a running target")
    }

    /// How many file descriptors the process has open.
    pub(super) fn open_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a running process").count()
    }

    /// How many of the open file descriptors are sockets.
    pub(super) fn open_sockets(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id())).expect("a running process");
        let is_socket = |path: PathBuf| {
            fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        open.filter(|entry| entry.as_ref().is_ok_and(|entry| is_socket(entry.path()))).count()
    }

    /// The lines of the log so far, where it goes to a file.
    pub(super) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).expect("a log");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a line of the log that holds a text, and returns it.
    pub(super) async fn logged(&self, text: &str) -> String {
        until(text, async || self.log().into_iter().find(|line| line.contains(text))).await
    }

    /// Stops the target by SIGTERM, and asserts that it ends in order.
    pub(super) async fn stop(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().await;
        assert!(sent.expect("kill is installed").success(), "SIGTERM could not be sent");
        let ended = within("the end of the target", self.process.wait()).await.expect("the exit status");
        assert_eq!(ended.code(), Some(0), "an end in order");
    }
}

/// Asserts that a process never took more memory than its limit.
pub(crate) fn assert_small(process: u32) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a running process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of the memory");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    assert!(kib * 1024 < MEMORY, "{} MiB", kib >> 10);
}

/// A log whose reader has closed it. Unlike after `2>&-`, each write to it fails.
pub(super) fn closed_log() -> PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer
}

/// A log that is closed by its reader after the first bytes, as `head -n1` does.
pub(super) fn log_closed_after_the_first_bytes() -> PipeWriter {
    let (mut reader, writer) = pipe().expect("a pipe");
    std::thread::spawn(move || reader.read(&mut [0; 64]));
    writer
}

/// A log without a reader, and the end from which a later reader reads it.
pub(super) fn unread_log() -> (PipeReader, PipeWriter) {
    pipe().expect("a pipe")
}

/// Reads a log until a line holds a text, and returns that line. A background thread reads the rest to the end, so that
/// the target has a reader from now on.
pub(super) async fn read_until(reader: PipeReader, text: &'static str) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        let found = lines.find_map(|line| line.ok().filter(|line| line.contains(text)));
        std::thread::spawn(move || lines.count());
        found
    });
    within(text, reading).await.expect("a reader").unwrap_or_else(|| panic!("the log ended without {text:?}"))
}
