//! Source files have no import cycles: no two files import each other, directly or through other files. A file that
//! only re-exports a name does not import it, see [`graph`](super::graph). Without cycles each file can be read before
//! those that import it.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, graph, modules};
use super::sources::{Source, sources};

/// All files that a file imports, directly or through others.
fn reached<'a>(graph: &'a Graph, file: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        let imports = graph.get(file).into_iter().flatten();
        next.extend(imports.map(String::as_str).filter(|import| reached.insert(*import)));
    }
    reached
}

/// The files in import cycles, each with its imports within its cycle.
fn cycles(graph: &Graph) -> BTreeMap<&str, Vec<&str>> {
    let reached: BTreeMap<&str, _> = graph.keys().map(|file| (file.as_str(), reached(graph, file))).collect();
    let within_cycle = |file: &'_ str| {
        let imports = graph[file].iter().map(String::as_str);
        imports.filter(|import| reached.get(import).is_some_and(|back| back.contains(file))).collect()
    };
    let cycles = graph.keys().map(|file| (file.as_str(), within_cycle(file)));
    cycles.filter(|(_, imports): &(_, Vec<_>)| !imports.is_empty()).collect()
}

#[test]
fn a_cycle_is_found_and_a_reexport_is_not_part_of_one() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
    let found =
        |files: &[Source]| cycles(&graph(&modules(files))).into_keys().map(str::to_owned).collect::<Vec<_>>();
    let reexport = [
        source("lib.rs", "pub mod a;\n"),
        source("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::C;\n"),
        source("a/b.rs", "pub struct B;\n"),
        source("a/c.rs", "use super::B;\npub struct C(B);\n"),
    ];
    assert_eq!(found(&reexport), [""; 0]);
    let cycle = [
        source("lib.rs", "pub mod a;\n"),
        source("a/mod.rs", "mod b;\npub struct A;\nfn f() { b::g(); }\n"),
        source("a/b.rs", "pub fn g(_: super::A) {}\n"),
    ];
    assert_eq!(found(&cycle), ["a/b.rs", "a/mod.rs"]);
}

#[test]
fn no_source_files_import_each_other() {
    let modules = modules(&sources("src"));
    let graph = graph(&modules);
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "the scan found almost nothing: {edges}");
    let left = cycles(&graph);
    let lines: Vec<String> = left.iter().map(|(file, imports)| format!("{file} -> {imports:?}")).collect();
    assert!(left.is_empty(), "files import each other in a cycle:\n{}", lines.join("\n"));
}
