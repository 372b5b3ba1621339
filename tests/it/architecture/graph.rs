//! The graph of imports: which source file imports which. The import of a re-exported name leads to the file that
//! defines the name, not to the file that re-exports it. Tests within a file may import the whole room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sources::{Import, Source, imports, paths};

/// A module: its `use` declarations, and the rest of its code.
pub(super) struct Module {
    file: String,
    imports: Vec<Import>,
    code: String,
}

/// The files that each file imports, by their paths under `src`.
pub(super) type Graph = BTreeMap<String, BTreeSet<String>>;

/// The modules by their paths; the path of the root is empty.
pub(super) type Modules = BTreeMap<Vec<String>, Module>;

/// The path of a file's module: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = path.iter().map(|name| name.to_str().expect("UTF-8").to_owned()).collect();
    let last = names.pop().expect("a file");
    match last.strip_suffix(".rs").expect("a Rust file") {
        "mod" | "lib" => {}
        name => names.push(name.to_owned()),
    }
    names
}

/// The code before the tests within a file.
fn without_tests(code: &str) -> &str {
    code.split_once("#[cfg(test)]\nmod tests {").map_or(code, |(code, _)| code)
}

/// Code without `mod name;` and without the paths of `pub(in path)`: neither uses the module that it names.
fn without_declarations(code: &str) -> String {
    let lines = code.lines().filter(|line| !line.ends_with(';') || !line.contains("mod "));
    let kept = lines.map(|line| {
        match line.split_once("pub(in ").and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
            Some((before, rest)) => format!("{before}pub{rest}\n"),
            None => format!("{line}\n"),
        }
    });
    kept.collect()
}

pub(super) fn modules(files: &[Source]) -> Modules {
    let files = files.iter().filter(|source| source.path.as_os_str() != "main.rs" && !is_test(&source.path));
    files
        .map(|source| {
            let (imports, code) = imports(without_tests(&source.code()));
            let code = without_declarations(&code);
            let file = source.path.display().to_string();
            (module(&source.path), Module { file, imports, code })
        })
        .collect()
}

/// Whether a file holds a room's unit tests.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests")
}

/// The module to which a path in another module leads. `None` if it leads out of the crate.
fn resolve(modules: &Modules, from: &[String], path: &[String]) -> Option<Vec<String>> {
    let (first, mut rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        name => {
            let child = [from, &[name.to_owned()]].concat();
            if !modules.contains_key(&child) {
                return None;
            }
            child
        }
    };
    while let Some((name, further)) = rest.split_first() {
        if name == "super" {
            at.pop()?;
        } else {
            let child = [&*at, std::slice::from_ref(name)].concat();
            if modules.contains_key(&child) {
                at = child;
            } else if let Some(import) =
                modules.get(&at)?.imports.iter().find(|import| &import.name == name && import.is_public)
            {
                return resolve(modules, &at, &[&*import.path, further].concat()).or(Some(at));
            } else {
                break;
            }
        }
        rest = further;
    }
    Some(at)
}

/// Whether a module uses what it imports, and does not only re-export it.
fn is_used(module: &Module, import: &Import) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    !import.is_public || module.code.split(|c| !is_name(c)).any(|word| word == import.name)
}

/// Which files each file imports.
pub(super) fn graph(modules: &Modules) -> Graph {
    let edges = |(at, module): (&Vec<String>, &Module)| {
        let used = module.imports.iter().filter(|import| is_used(module, import));
        let named = used.map(|import| import.path.clone()).chain(paths(&module.code));
        let seen = named.filter_map(|path| resolve(modules, at, &path)).filter(|found| found != at);
        let files = seen.filter_map(|found| modules.get(&found)).map(|found| found.file.clone());
        (module.file.clone(), files.collect())
    };
    modules.iter().map(edges).collect()
}
