//! Blocks of the kind `console`: the commands that a reader types after `$ `, and their output. A command continues in
//! the next line after a backslash or within quotes. All blocks of a page run one after the other against one server.
//! The note `server: KEY=VALUE ...` before a block changes its settings; its data stays.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::page::Block;
use super::server::{PROGRAM, Server};
use super::shapes::Shapes;
use super::{answers, grpcurl};

/// The address of HTTP on the pages.
const HTTP: &str = "127.0.0.1:8080";

/// The address of gRPC on the pages.
const GRPC: &str = "127.0.0.1:50051";

/// The longest that a command may run, in seconds; a test that hangs fails.
const GUARD: &str = "60";

/// The session of a reader with one page: a folder, a server in it, and the real ids for those of the page.
pub(super) struct Session {
    folder: TempDir,
    settings: Vec<(String, String)>,
    server: Option<Server>,
    shapes: Shapes,
    /// The body of the answer to the last request of a `json` block.
    answer: String,
}

/// A command and its output on the page.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: String,
}

impl Session {
    pub(super) fn new() -> Session {
        let folder = tempfile::tempdir().expect("a folder");
        Session {
            folder,
            settings: Vec::new(),
            server: None,
            shapes: Shapes::default(),
            answer: String::new(),
        }
    }

    /// Runs the commands of a block and compares what they print.
    ///
    /// # Errors
    /// The command, and the first line that differs.
    pub(super) fn console(&mut self, block: &Block) -> Result<(), String> {
        if let Some(settings) = block.note.as_deref().and_then(|note| note.strip_prefix("server:")) {
            let pair = |word: &str| {
                let (key, value) = word.split_once('=').expect("KEY=VALUE");
                (key.to_owned(), value.to_owned())
            };
            self.settings = settings.split_whitespace().map(pair).collect();
            self.server = None;
        }
        for Step { command, output } in steps(&block.text) {
            let real = self.shapes.real(&command);
            let actual = match real.strip_prefix("grpcurl ") {
                Some(arguments) => grpcurl::run(arguments, GRPC, &self.server().grpc.clone()),
                None => self.run(&real, &output),
            };
            let actual = actual.replace(&self.server().http, HTTP).replace(&self.server().grpc, GRPC);
            let compared = self.shapes.compare(&output, &actual);
            compared.map_err(|difference| format!("$ {command}\n{difference}\nall of it:\n{actual}"))?;
        }
        Ok(())
    }

    /// Checks a block of JSON by its note, see [`answers`].
    ///
    /// # Errors
    /// What differs.
    pub(super) fn json(&mut self, block: &Block) -> Result<(), String> {
        let note =
            block.note.as_deref().ok_or("say in a comment before it what this JSON is compared with")?;
        match note.split_once(": ").unwrap_or((note, "")) {
            ("golden", name) => answers::is_golden(name, &block.text),
            ("request", status) => {
                let body = self.shapes.real(&block.text);
                let url = self.server().http.clone();
                self.answer = answers::post(&url, &body, status)?;
                Ok(())
            }
            ("answer", "") => self.shapes.compare(&block.text, &self.answer),
            _ => Err(format!("{note:?} is not known; write golden: NAME, request: STATUS or answer")),
        }
    }

    /// The server, which starts at its first use.
    fn server(&mut self) -> &Server {
        let (folder, settings) = (self.folder.path(), &self.settings);
        self.server.get_or_insert_with(|| Server::up(folder, settings))
    }

    /// The text that a command prints on both outputs. An endless command is stopped after as many lines as the page
    /// shows.
    fn run(&mut self, command: &str, shown: &str) -> String {
        let (http, grpc) = (self.server().http.clone(), self.server().grpc.clone());
        let script = format!(
            "curl() {{ command curl --silent --show-error \"$@\"; }}\n{{ {}\n}} 2>&1",
            command.replace(HTTP, &http).replace(GRPC, &grpc)
        );
        let programs = std::path::Path::new(PROGRAM).parent().expect("a folder");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new("timeout")
            .args(["--signal", "TERM", GUARD, "bash", "-c", &script])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .env("ORDERSTREAM_SERVER", format!("http://{http}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("timeout and bash are installed");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut text = String::new();
        if is_endless(command) {
            for _ in 0..shown.trim_end().lines().count() {
                output.read_line(&mut text).expect("text");
            }
            kill_process(Pid::from_child(&child), Signal::TERM).expect("the command runs");
            // The output after the signal is not on the page.
            output.read_to_string(&mut String::new()).expect("text");
        }
        output.read_to_string(&mut text).expect("text");
        let ended = child.wait().expect("the end of the command");
        assert_ne!(ended.code(), Some(124), "the command does not end: {command}");
        text.replace('\r', "")
    }
}

/// Whether a command runs until it is stopped.
fn is_endless(command: &str) -> bool {
    ["orders events ", "curl -N ", "--follow"].iter().any(|words| command.contains(words))
}

/// The commands of a block, each with its output.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let begins = line.strip_prefix("$ ");
        match (begins, steps.last_mut()) {
            (None, Some(step)) if is_open => step.command += &format!("\n{line}"),
            (Some(command), _) => steps.push(Step { command: command.to_owned(), output: String::new() }),
            (None, Some(step)) => step.output += &format!("{line}\n"),
            (None, None) => panic!("a console begins with a command: {line}"),
        }
        let command = &steps.last().expect("a command").command;
        if begins.is_some() || is_open {
            is_open = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
        }
    }
    steps
}

#[test]
fn a_command_continues_after_a_backslash_and_within_quotes() {
    let text = "$ a \\\n    b\nout\n\n$ c '[1,\n  2]'\nmore\n";
    let step = |command: &str, output: &str| Step { command: command.into(), output: output.into() };
    assert_eq!(steps(text), [step("a \\\n    b", "out\n\n"), step("c '[1,\n  2]'", "more\n")]);
}
