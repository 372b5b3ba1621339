//! The real servers that tests run against: those that the environment names, or the private ones that
//! `scripts/servers` starts, once per run of the tests.

use std::process::Command;
use std::sync::OnceLock;

/// The DSN of a Postgres whose database the tests may fill.
pub(crate) fn postgres() -> &'static str {
    static DSN: OnceLock<String> = OnceLock::new();
    DSN.get_or_init(|| setting("POSTGRES_DSN", "postgres"))
}

/// The value of a variable: the environment's, or what the script prints for the server.
fn setting(name: &str, server: &str) -> String {
    if let Ok(given) = std::env::var(name) {
        return given;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers");
    let output = Command::new(script).args(["up", server]).output().expect("scripts/servers can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/servers up {server}: {said}");
    let lines = String::from_utf8(output.stdout).expect("it prints text");
    let value = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("scripts/servers up {server} printed no {name}: {lines}")).to_owned()
}
