//! The program as a reader of the pages starts it: embedded, in its own folder and on free ports. The server ends when
//! its handle is dropped. The module relies on the lines that a server prints when it is ready.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The program under test.
pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_orderstream");

/// A running `orderstream up`.
pub(super) struct Server {
    /// The address of HTTP, as `127.0.0.1:8080`.
    pub(super) http: String,
    /// The address of gRPC.
    pub(super) grpc: String,
    child: Child,
}

/// A command of the program in a folder, which also has its store; the command sees no other settings.
pub(super) fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).env_clear().env("LOG_LEVEL", "error");
    command
}

impl Server {
    /// Starts `up` in a folder with settings such as `HISTORY=on`, and waits until it has printed its addresses.
    pub(super) fn up(folder: &Path, settings: &[(String, String)]) -> Server {
        let mut command = program(folder, &["up"]);
        command.env("API_PORT", "0").env("GRPC_PORT", "0").envs(settings.iter().cloned());
        Server::start(command)
    }

    /// Starts a command that prints the addresses of HTTP and gRPC.
    pub(super) fn start(mut command: Command) -> Server {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut address = |before: &str| {
            let line = lines.by_ref().map(|line| line.expect("text")).find(|line| line.contains(before));
            let line = line.unwrap_or_else(|| panic!("it ended without a line that has {before:?}"));
            let rest = line
                .split_once(before)
                .expect("the text before the address")
                .1
                .trim_start_matches(|c: char| !c.is_ascii_digit());
            rest.split_whitespace().next().expect("an address").to_owned()
        };
        let (http, grpc) = (address("http://"), address("gRPC"));
        Server { http, grpc, child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
