//! The rules of the house, held by reading the sources: who may import whom, who owns which dependency, how long
//! a file may be and how it begins, and that the README tells every problem there is.

use std::fs;
use std::path::{Path, PathBuf};

use orderstream::api::problem::TABLE;

/// The rooms, and which rooms each may import besides itself and the leaves.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["app", "api", "service", "store", "bus", "cache", "order", "error"]),
    ("app", &["api", "service", "store", "bus", "cache", "order", "error"]),
    ("api", &["service", "order", "error"]),
    ("service", &["store", "bus", "cache", "order", "error"]),
    ("store", &["order"]),
    ("bus", &["order"]),
    ("cache", &["order"]),
    ("error", &["order"]),
    ("order", &[]),
    ("config", &[]),
    ("telemetry", &[]),
];

/// Anyone may import these; they import no room. `shutdown` is one besides, and has no row of its own.
const LEAVES: [&str; 3] = ["config", "telemetry", "shutdown"];

/// Paths that only their owners may name. An owner is a folder or file under `src`.
const OWNED: [(&str, &[&str]); 16] = [
    ("axum::", &["api"]),
    ("hyper::", &["api", "cli/orders/client.rs"]),
    ("hyper_util::", &["api", "cli/orders/client.rs"]),
    ("http_body_util::", &["api", "cli/orders/client.rs"]),
    ("tonic::", &["api"]),
    ("tonic_health::", &["api"]),
    ("tonic_reflection::", &["api"]),
    ("rdkafka::", &["bus/kafka"]),
    ("rusqlite::", &["store/sqlite"]),
    ("tokio_postgres::", &["store/postgres"]),
    ("tokio_postgres_rustls::", &["store/postgres"]),
    ("rustls_native_certs::", &["store/postgres"]),
    ("redis::", &["cache"]),
    ("rustix::", &["cli/descriptors.rs"]),
    ("std::env", &["config", "cli"]),
    ("env::", &["config", "cli"]),
];

/// The longest a file may be.
const CEILING: usize = 400;

/// A source file: its path under its root, and its text.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The room it belongs to: its folder under `src`, or its own name.
    fn room(&self) -> &str {
        let first = self.path.iter().next().and_then(|part| part.to_str()).expect("a path");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The text without comments. Strings stay; none of ours names a room.
    fn code(&self) -> String {
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
        self.text.lines().map(code).collect()
    }
}

/// Every Rust file under a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                let path = path.strip_prefix(&root).expect("a path under its root").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

/// The rooms that code names, in a `use` or in the middle of a line.
fn named_rooms(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    // The binary says `orderstream`; without the `use` that is also a target of the log, in strings.
    for root in ["crate::", "use orderstream::"] {
        for at in places(code, root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => rooms.extend(top_level(list)),
                None => rooms.push(identifier(rest)),
            }
        }
    }
    rooms
}

/// The first name of each member of a `use` list whose opening brace has been read.
fn top_level(list: &str) -> Vec<String> {
    let (mut depth, mut members) = (1, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(String::new()),
            c if !c.is_whitespace() => members.last_mut().expect("a member").push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    members.iter().map(|member| identifier(member)).filter(|name| !name.is_empty()).collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Where code names a path, and not one that only ends or begins like it.
fn places(code: &str, path: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |at: usize| !code[..at].ends_with(is_name);
    let ends = |at: usize| path.ends_with(':') || !code[at + path.len()..].starts_with(is_name);
    code.match_indices(path).map(|(at, _)| at).filter(|at| begins(*at) && ends(*at)).collect()
}

#[test]
fn the_scan_sees_every_way_to_name_a_room() {
    assert_eq!(named_rooms("use crate::store::Store;\nfn f(_: &crate::bus::Event) {}"), ["store", "bus"]);
    assert_eq!(
        named_rooms("use crate::{app, telemetry::{self, init},\n    bus};"),
        ["app", "telemetry", "bus"]
    );
    assert_eq!(named_rooms("use orderstream::cli::{self, Cli};"), ["cli"]);
    assert_eq!(named_rooms("use mycrate::store;"), [""; 0]);
    assert_eq!(places("use hyper::x; my_hyper::y; hyper_util::z", "hyper::"), [4]);
    assert_eq!(places("std::environment std::env; (std::env::vars())", "std::env"), [17, 28]);
    assert_eq!(places("std::env::vars() env::args()", "env::"), [5, 17]);
    let commented =
        Source { path: "a.rs".into(), text: "//! [`crate::bus`]\nf(); // crate::store\n".to_owned() };
    assert_eq!(commented.code(), "\nf(); \n");
}

#[test]
fn a_room_imports_only_the_rooms_to_its_right() {
    let mut count = 0;
    for source in sources("src") {
        let room = source.room();
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == room);
        let allowed = match row {
            Some((_, allowed)) => *allowed,
            None if LEAVES.contains(&room) => &[],
            None => panic!("{} is a room without a rule; write one into MAY_IMPORT", source.path.display()),
        };
        for named in named_rooms(&source.code()) {
            let fine = named == room || allowed.contains(&named.as_str()) || LEAVES.contains(&named.as_str());
            assert!(fine, "{} names `{named}`, which `{room}` must not see", source.path.display());
            count += 1;
        }
    }
    assert!(count > 40, "the scan found almost nothing: {count}");
}

#[test]
fn a_dependency_has_one_owner() {
    let sources = sources("src");
    for (path, owners) in OWNED {
        let users: Vec<_> =
            sources.iter().filter(|source| !places(&source.code(), path).is_empty()).collect();
        assert!(!users.is_empty(), "nobody uses {path}; take its row out");
        for user in users {
            let owned = owners.iter().any(|owner| user.path.starts_with(owner));
            assert!(owned, "{} names {path}, which belongs to {owners:?}", user.path.display());
        }
    }
}

#[test]
fn a_file_opens_with_its_promise_and_stays_below_the_ceiling() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        let (path, lines) = (source.path.display(), source.text.lines().count());
        assert!(source.text.starts_with("//! "), "{path} does not open with a `//!`");
        assert!(lines <= CEILING, "{path} has {lines} lines; the ceiling is {CEILING}");
    }
}

#[test]
fn the_readme_lists_every_problem_as_it_is() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("a README");
    let rows = readme.lines().filter(|line| {
        let mut cells = line.split('|').map(str::trim).skip(2);
        line.starts_with("| `") && cells.next().is_some_and(|status| status.parse::<u16>().is_ok())
    });
    let told: Vec<String> = rows.map(|row| row.split('|').take(5).collect::<Vec<_>>().join("|")).collect();
    let table = TABLE.map(|kind| {
        let retryable = if kind.retryable { "yes" } else { "no" };
        format!("| `{}` | {} | `{}` | {retryable} ", kind.code, kind.status, kind.grpc_name())
    });
    assert_eq!(told, table, "the problems of README.md (left) differ from the table in src/api/problem.rs");
}
