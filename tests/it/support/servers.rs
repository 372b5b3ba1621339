//! The real servers that tests run against: those that the environment names, or the private ones that
//! `scripts/servers` starts, once per run of the tests.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The DSN of a Postgres whose database the tests may fill.
pub(crate) fn postgres() -> &'static str {
    static DSN: OnceLock<String> = OnceLock::new();
    DSN.get_or_init(|| setting("POSTGRES_DSN", "postgres"))
}

/// The brokers of a Kafka where the tests may make topics.
pub(crate) fn kafka() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| setting("KAFKA_BROKERS", "kafka"))
}

/// The value of a variable: the environment's, or what the script prints for the server.
fn setting(name: &str, server: &str) -> String {
    if let Ok(given) = std::env::var(name) {
        return given;
    }
    value(&run(&["up", server], None), name)
}

/// Runs the script, on the usual folder or on that one, and answers what it prints.
fn run(arguments: &[&str], folder: Option<&Path>) -> String {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers"));
    if let Some(folder) = folder {
        script.env("ORDERSTREAM_SERVERS", folder).env_remove("KAFKA_BROKERS");
    }
    let output = script.args(arguments).output().expect("scripts/servers can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/servers {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn value(lines: &str, name: &str) -> String {
    let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("scripts/servers printed no {name}: {lines}")).to_owned()
}

/// A server of one test alone, to be broken; stopped at its end.
pub(crate) struct Private {
    server: &'static str,
    address: String,
    folder: TempDir,
}

impl Private {
    pub(crate) fn kafka() -> Private {
        let folder = TempDir::new().expect("a folder");
        let address = value(&run(&["up", "kafka"], Some(folder.path())), "KAFKA_BROKERS");
        Private { server: "kafka", address, folder }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Does to it what the script calls by that name, as `pause` or `kill`.
    pub(crate) fn run(&self, what: &str) {
        run(&[what, self.server], Some(self.folder.path()));
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        run(&["down", "--purge"], Some(self.folder.path()));
    }
}
