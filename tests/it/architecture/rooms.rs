//! The rooms of the source: which room may import which, which folders of a room stay independent, and which folder
//! owns which dependency. A room is a folder or file directly under `src`; a new one needs a row here.

use super::graph::{graph, modules};
use super::sources::{Source, imports, paths, positions, sources};

/// The rooms, and which rooms each may import besides itself and the leaves.
const MAY_IMPORT: [(&str, &[&str]); 15] = [
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["app", "api", "service", "worker", "checker", "store", "bus", "cache", "order", "error"]),
    ("app", &["api", "service", "worker", "checker", "store", "bus", "cache", "order", "error"]),
    ("api", &["service", "order", "error"]),
    ("service", &["store", "bus", "cache", "order", "error"]),
    ("worker", &["store", "bus", "cache", "order", "error"]),
    ("checker", &["store", "bus", "cache", "order", "error"]),
    ("store", &["order"]),
    ("bus", &["order"]),
    ("cache", &["order"]),
    ("error", &["order"]),
    ("order", &[]),
    ("config", &[]),
    ("telemetry", &[]),
];

/// All rooms may import these, and they import no room. `shutdown` and `backoff` have no rows in `MAY_IMPORT`.
const LEAVES: [&str; 4] = ["config", "telemetry", "shutdown", "backoff"];

/// Paths that only their owners may name. An owner is a folder or file under `src`.
const OWNED: [(&str, &[&str]); 16] = [
    ("axum::", &["api/http"]),
    ("hyper::", &["api", "cli/orders/client.rs"]),
    ("hyper_util::", &["api", "cli/orders/client.rs"]),
    ("http_body_util::", &["api", "cli/orders/client.rs"]),
    ("tonic::", &["api/grpc", "api/problem.rs"]),
    ("tonic_health::", &["api/grpc"]),
    ("tonic_reflection::", &["api/grpc"]),
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

/// Folders of a room, and the folders of that room that they must not import. The protocols do not know each other, and
/// the code that both use knows neither.
const MUST_NOT_IMPORT: [(&str, &[&str]); 4] = [
    ("api/http/", &["api/grpc/"]),
    ("api/grpc/", &["api/http/"]),
    ("api/server/", &["api/http/", "api/grpc/"]),
    ("api/openapi/", &["api/http/", "api/grpc/", "api/server/"]),
];

/// The rooms that a file names, in a `use` or in the middle of a line.
fn named_rooms(source: &Source) -> Vec<String> {
    let (imports, code) = imports(&source.code());
    // The binary names the library `orderstream`; outside of `use` that is also a target of the log, in strings.
    let imported = imports
        .into_iter()
        .map(|import| import.path)
        .filter(|path| path[0] == "orderstream" || path[0] == "crate");
    let named = paths(&code).into_iter().filter(|path| path[0] == "crate");
    imported.chain(named).filter_map(|path| path.into_iter().nth(1)).collect()
}

#[test]
fn a_room_imports_only_the_rooms_of_its_row() {
    let mut count = 0;
    for source in sources("src") {
        let room = source.room();
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == room);
        let allowed = match row {
            Some((_, allowed)) => *allowed,
            None if LEAVES.contains(&room) => &[],
            None => panic!("{} is a room without a rule; write one into MAY_IMPORT", source.path.display()),
        };
        for named in named_rooms(&source) {
            let fine = named == room || allowed.contains(&named.as_str()) || LEAVES.contains(&named.as_str());
            assert!(fine, "{} names `{named}`, which `{room}` must not see", source.path.display());
            count += 1;
        }
    }
    assert!(count > 40, "the scan found almost nothing: {count}");
}

#[test]
fn a_folder_imports_no_forbidden_folder_of_its_room() {
    let graph = graph(&modules(&sources("src")));
    for (folder, forbidden) in MUST_NOT_IMPORT {
        let files: Vec<_> = graph.iter().filter(|(file, _)| file.starts_with(folder)).collect();
        assert!(!files.is_empty(), "there is no folder {folder}");
        for (file, imports) in files {
            let found =
                imports.iter().find(|import| forbidden.iter().any(|folder| import.starts_with(folder)));
            assert_eq!(found, None, "{file} imports what {folder} must not see");
        }
    }
}

#[test]
fn a_dependency_has_one_owner() {
    let sources = sources("src");
    for (path, owners) in OWNED {
        let users: Vec<_> =
            sources.iter().filter(|source| !positions(&source.code(), path).is_empty()).collect();
        assert!(!users.is_empty(), "no file uses {path}; remove its row");
        for user in users {
            let owned = owners.iter().any(|owner| user.path.starts_with(owner));
            assert!(owned, "{} names {path}, which belongs to {owners:?}", user.path.display());
        }
    }
}
