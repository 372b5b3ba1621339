//! Blocks of the kind `sh`: commands that a test does not run, because they take minutes, need servers or change the
//! machine. The test checks what it can: targets of `make`, scripts and examples must exist, and a subcommand of
//! `orderstream` must have the flags of the command. A list names the other programs, each with the reason.

use super::page::{file, root};
use super::server::{PROGRAM, program};

/// Programs that are not part of this repository, and why the test does not run them.
const OTHERS: [(&str, &str); 14] = [
    ("docker", "builds images and starts containers for minutes"),
    ("kubectl", "needs a cluster"),
    ("psql", "the statements are tested with the store's own client"),
    ("pg_dump", "a tool of Postgres; needs the reader's database"),
    ("pg_restore", "a tool of Postgres; needs the reader's database"),
    ("cargo", "installs into the reader's home, or builds for minutes"),
    ("git", "changes the reader's working copy"),
    ("cd", "changes a folder for the commands that follow"),
    ("cp", "copies the reader's files"),
    ("python3", "run by the tests in `examples`; here the file must exist"),
    (".venv/bin/python", "as python3"),
    ("target/examples/bin/python", "as python3"),
    (".venv/bin/pip", "installs into the reader's folder; the tests use scripts/venv"),
    ("kafka-configs.sh", "a tool of Kafka; needs the reader's brokers"),
];

/// Checks every command of a block.
///
/// # Errors
/// The first one that is wrong, and why.
pub(super) fn check(text: &str) -> Result<(), String> {
    let joined = text.replace("\\\n", " ");
    joined.lines().map(without_comment).filter(|line| !line.is_empty()).try_for_each(|line| {
        line.split(" && ").try_for_each(|command| {
            let command = command.trim().trim_end_matches('&').trim();
            check_command(command).map_err(|reason| format!("{command}: {reason}"))
        })
    })
}

fn without_comment(line: &str) -> &str {
    let line = if line.starts_with('#') { "" } else { line };
    line.split("  #").next().unwrap_or_default().split(" # ").next().unwrap_or_default().trim()
}

fn check_command(command: &str) -> Result<(), String> {
    // `env $(scripts/servers up) COMMAND` and `NAME=value COMMAND` run the command after them.
    if let Some(rest) = command.strip_prefix("env $(scripts/servers up) ") {
        check_command("scripts/servers up")?;
        return check_command(rest);
    }
    let is_assignment = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let words: Vec<&str> =
        command.split_whitespace().skip_while(|word| is_assignment(word) || *word == "env").collect();
    let Some((first, rest)) = words.split_first() else { return Ok(()) };
    match *first {
        "make" => targets(rest),
        "orderstream" => flags(rest),
        path if path.starts_with("scripts/") => exists(path),
        name => {
            let known = OTHERS.iter().any(|(other, _)| *other == name);
            known
                .then_some(())
                .ok_or_else(|| format!("{name} is not known; run it in a `console`, or list it in OTHERS"))?;
            let files =
                rest.iter().filter(|word| word.starts_with("examples/") || word.starts_with("scripts/"));
            files.map(|path| exists(path)).collect::<Result<Vec<_>, _>>()?;
            let example = rest.iter().position(|word| *word == "--example").and_then(|at| rest.get(at + 1));
            example.map_or(Ok(()), |name| exists(&format!("examples/{name}.rs")))
        }
    }
}

fn exists(path: &str) -> Result<(), String> {
    root().join(path).exists().then_some(()).ok_or_else(|| format!("{path} does not exist"))
}

fn targets(words: &[&str]) -> Result<(), String> {
    let makefile = file("Makefile");
    words.iter().filter(|word| !word.contains('=')).try_for_each(|target| {
        let exists = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
        exists.then_some(()).ok_or_else(|| format!("the Makefile has no target {target}"))
    })
}

/// Whether the subcommand at the beginning of the words has all flags among them.
fn flags(words: &[&str]) -> Result<(), String> {
    let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
    let folder = std::env::temp_dir();
    let mut subcommand: Vec<&str> = words.iter().take_while(is_name).copied().take(2).collect();
    if subcommand.first() != Some(&"orders") {
        subcommand.truncate(1);
    }
    subcommand.push("--help");
    let help = program(&folder, &subcommand).output().unwrap_or_else(|error| panic!("{PROGRAM}: {error}"));
    if !help.status.success() {
        return Err(format!("there is no subcommand {subcommand:?}"));
    }
    let help = String::from_utf8(help.stdout).expect("text");
    let mut flags =
        words.iter().filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap_or(word));
    flags.try_for_each(|flag| {
        let has = |line: &str| line.trim_start().split([' ', ',']).any(|word| word == flag);
        help.lines().any(has).then_some(()).ok_or_else(|| format!("{subcommand:?} has no flag {flag}"))
    })
}

#[test]
fn commands_with_unknown_targets_flags_and_files_are_found() {
    for text in [
        "make up\n",
        "HISTORY=on make up   # with a history\n",
        "env $(scripts/servers up) make migrate\n",
        "orderstream backup --force orders.db && orderstream verify --idle\n",
        "docker compose up -d --build\n",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
    for (text, reason) in [
        ("make upp\n", "no target upp"),
        ("orderstream backup --forced orders.db\n", "no flag --forced"),
        ("orderstream dance\n", "no subcommand"),
        ("scripts/none\n", "does not exist"),
        ("unknown\n", "not known"),
    ] {
        assert!(check(text).unwrap_err().contains(reason), "{text}");
    }
}
