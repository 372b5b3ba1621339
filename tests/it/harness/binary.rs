//! The real program as its users start it: in a folder of its own, with the given environment only. It is killed by its
//! id when the test ends, and at a limit where it hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clients::http::GUARD;

/// The limit for a program that may have to install another one first.
pub(crate) const INSTALLATION: Duration = Duration::from_secs(900);

/// A folder in which the program is started.
pub(crate) struct Place {
    folder: TempDir,
}

/// The exit code and the output of a run of the program.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file into the folder and answers its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderstream"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .env("DATA_DIR", self.data_dir())
            .env("LOG_LEVEL", "warn");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// Runs a command to its end, with that text on its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _guard = Guard::of(&child);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// Starts `orderstream up` on free ports and waits until it prints its address.
    pub(crate) fn up(&self) -> Server {
        Server::start(&mut self.command(&["up"]))
    }
}

/// Runs a command to its end, with no input, and answers what it printed.
pub(crate) fn ran(command: &mut Command) -> Ran {
    ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Runs a command to its end, with the input and outputs that it has been given.
pub(crate) fn ended(command: &mut Command) -> Ran {
    let child = command.spawn().unwrap();
    let _guard = Guard::of(&child);
    child.wait_with_output().unwrap().into()
}

/// Runs another program to its end, with no input, and kills it at a limit: a test that would hang fails.
pub(crate) fn output_within(limit: Duration, command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let _guard = Guard::within(&child, limit);
    child.wait_with_output().expect("a child that can be waited for")
}

/// Kills a program that has not ended at the limit, unless the guard is dropped before: a test that would hang fails.
pub(crate) struct Guard {
    _kept: Sender<()>,
}

impl Guard {
    pub(crate) fn of(child: &Child) -> Guard {
        Guard::within(child, GUARD)
    }

    /// The same for a program that takes longer than others.
    pub(crate) fn within(child: &Child, limit: Duration) -> Guard {
        let (kept, gone) = channel::<()>();
        let process = Pid::from_child(child);
        thread::spawn(move || {
            if gone.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Fails where the program has just ended.
                let _ = kill_process(process, Signal::KILL);
            }
        });
        Guard { _kept: kept }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().expect("an exit code: the program was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// The standard output of a run that succeeded without a message on standard error.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// The standard error of a run that ended with that code and printed nothing else.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{}", self.stderr);
        self.stderr
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    /// The line that names the address.
    pub(crate) ready: String,
    _process: Process,
}

impl Server {
    /// Starts `up` or `api` on free ports and waits until it prints its address.
    pub(crate) fn start(command: &mut Command) -> Server {
        let mut process = Process::spawn(command.env("API_PORT", "0").env("GRPC_PORT", "0"));
        let ready = process.line();
        let address = ready.split_whitespace().find(|word| word.starts_with("http://"));
        let url = address.unwrap_or_else(|| panic!("{ready:?} names no address")).to_owned();
        Server { url, ready, _process: process }
    }

    /// Runs a command of the client against this server.
    pub(crate) fn orders(&self, place: &Place, args: &[&str]) -> Ran {
        place.run(&[&["orders", "--server", &self.url], args].concat())
    }
}

/// A running program whose standard output is read line by line.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Process { child, stdout }
    }

    /// Waits for the next line; `""` when the program has closed its output.
    pub(crate) fn line(&mut self) -> String {
        let _guard = Guard::of(&self.child);
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The rest of the output, and the exit code.
    pub(crate) fn end(mut self) -> (String, i32) {
        let _guard = Guard::of(&self.child);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().code().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where the child has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
