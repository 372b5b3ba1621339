//! The real binary as a process that can be killed. It is started on a free port, and has printed its address before a
//! test gets the handle; dropping the handle kills it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use crate::clients::wire::{Answer, Wire};
use crate::harness::wait::within;

/// The text before the address in the ready line.
const LISTENS: &str = "OrderStream listens on http://";

/// The text before the address in the last line of a worker that is ready.
const HEALTH: &str = "Its health is on http://";

/// A running process.
pub(crate) struct Child {
    process: tokio::process::Child,
    address: SocketAddr,
    // Kept open: a process that writes into a closed pipe fails.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts `orderstream up` on a data folder.
    pub(crate) async fn up(folder: &Path) -> Child {
        let mut command = command(env!("CARGO_BIN_EXE_orderstream"), folder);
        command.arg("up");
        Child::start(command).await
    }

    /// Starts a command that prints the ready line.
    pub(crate) async fn start(mut command: Command) -> Child {
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let stdout = process.stdout.take().expect("its output is a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let address = within("the ready line", async {
            loop {
                let line =
                    lines.next_line().await.expect("its output is text").expect("it prints that it is ready");
                if let Some((_, rest)) = line.split_once(LISTENS) {
                    let address = rest.split(' ').next().expect("an address follows");
                    return address.parse().expect("an address follows");
                }
                if let Some(rest) = line.strip_prefix(HEALTH) {
                    let address = rest.split('/').next().expect("an address follows");
                    return address.parse().expect("an address follows");
                }
            }
        })
        .await;
        Child { process, address, _stdout: lines }
    }

    /// The address of the process; that of a worker is for its health.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it has not been waited for")
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.address()).await.expect("it listens")
    }

    /// Sends one request on a connection of its own, and expects an answer.
    pub(crate) async fn post(&self, body: &str) -> Answer {
        within("an answer", self.connect().await.post(body)).await.expect("an answer")
    }

    /// Ends the process by SIGKILL, and waits until it is gone.
    pub(crate) async fn kill_9(mut self) {
        self.process.start_kill().expect("it runs");
        self.exit().await;
    }

    /// Sends SIGTERM.
    pub(crate) async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.expect("kill is installed");
        assert!(sent.success(), "SIG{name} could not be sent to {id}");
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the end of the process", self.process.wait()).await.expect("it can be waited for")
    }

    /// Stops the process in order.
    pub(crate) async fn stop(mut self) {
        self.terminate().await;
        assert_eq!(self.exit().await.code(), Some(0));
    }
}

/// A command that works in a data folder, independent of the settings in the environment of the tests.
pub(crate) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env("DATA_DIR", folder)
        .env("API_PORT", "0")
        .env("GRPC_PORT", "0")
        .env("WORKER_HEALTH_PORT", "0")
        .env("HISTORY", "on")
        .env("LOG_LEVEL", "warn");
    for name in ["POSTGRES_DSN", "KAFKA_BROKERS", "REDIS_ADDR", "ORDERSTREAM_CONFIG"] {
        command.env_remove(name);
    }
    command
}
