//! No two source files import each other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, graph, modules};
use super::sources::{Source, sources};

/// All files that a file imports, directly or by way of others.
fn reached<'a>(graph: &'a Graph, file: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        let imports = graph.get(file).into_iter().flatten();
        next.extend(imports.map(String::as_str).filter(|import| reached.insert(*import)));
    }
    reached
}

/// The files that stand in circles, with what each imports of its own circle.
fn circles(graph: &Graph) -> BTreeMap<&str, Vec<&str>> {
    let reached: BTreeMap<&str, _> = graph.keys().map(|file| (file.as_str(), reached(graph, file))).collect();
    let of_circle = |file: &'_ str| {
        let imports = graph[file].iter().map(String::as_str);
        imports.filter(|import| reached.get(import).is_some_and(|back| back.contains(file))).collect()
    };
    let circles = graph.keys().map(|file| (file.as_str(), of_circle(file)));
    circles.filter(|(_, imports): &(_, Vec<_>)| !imports.is_empty()).collect()
}

#[test]
fn a_circle_is_found_and_a_door_is_not_part_of_one() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
    let found = |files: &[Source]| {
        circles(&graph(&modules(files))).into_keys().map(str::to_owned).collect::<Vec<_>>()
    };
    let door = [
        source("lib.rs", "pub mod a;\n"),
        source("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::C;\n"),
        source("a/b.rs", "pub struct B;\n"),
        source("a/c.rs", "use super::B;\npub struct C(B);\n"),
    ];
    assert_eq!(found(&door), [""; 0]);
    let circle = [
        source("lib.rs", "pub mod a;\n"),
        source("a/mod.rs", "mod b;\npub struct A;\nfn f() { b::g(); }\n"),
        source("a/b.rs", "pub fn g(_: super::A) {}\n"),
    ];
    assert_eq!(found(&circle), ["a/b.rs", "a/mod.rs"]);
}

#[test]
fn no_files_import_each_other() {
    let modules = modules(&sources("src"));
    let graph = graph(&modules);
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "the scan found almost nothing: {edges}");
    let left = circles(&graph);
    let lines: Vec<String> = left.iter().map(|(file, imports)| format!("{file} -> {imports:?}")).collect();
    assert!(left.is_empty(), "files import each other in a circle:\n{}", lines.join("\n"));
}
