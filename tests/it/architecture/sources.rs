//! The sources as text, and the paths that they name. Comments are left out; strings stay, because no string of the
//! program names a module. The scan knows the forms of `use` that rustfmt writes.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path under its root, and its text.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// Its room: its folder under `src`, or its own name.
    pub(super) fn room(&self) -> &str {
        let first = self.path.iter().next().and_then(|part| part.to_str()).expect("a path");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The text without comments.
    pub(super) fn code(&self) -> String {
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
        self.text.lines().map(code).collect()
    }
}

/// Every Rust file under a folder of the repository.
pub(super) fn sources(folder: &str) -> Vec<Source> {
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

/// A `use` declaration, or one of its branches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The whole path: `["crate", "store", "Error"]`.
    pub(super) path: Vec<String>,
    /// Its name in the file.
    pub(super) name: String,
    /// Whether other files may use it from there: `pub use` of any visibility.
    pub(super) is_public: bool,
}

/// The `use` declarations of a file, one for each branch of a tree, and the code without them.
pub(super) fn imports(code: &str) -> (Vec<Import>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let Some((visibility, tree)) = declaration(line) else {
            rest += &format!("{line}\n");
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.trim_end().ends_with(';') {
            tree += lines.next().expect("a `use` ends with a semicolon");
        }
        branches(tree.trim_end().trim_end_matches(';'), &mut Vec::new(), visibility, &mut found);
    }
    (found, rest)
}

/// The tree of a `use` declaration that begins in this line, and whether it is public.
fn declaration(line: &str) -> Option<(bool, &str)> {
    let line = line.trim_start();
    if let Some(tree) = line.strip_prefix("use ") {
        return Some((false, tree));
    }
    let (visibility, tree) = line.split_once("use ")?;
    let is_visibility = matches!(visibility.trim_end(), "pub" | "pub(crate)" | "pub(super)")
        || (visibility.starts_with("pub(in ") && visibility.trim_end().ends_with(')'));
    is_visibility.then_some((true, tree))
}

/// Adds the branches of a tree below a path.
fn branches(tree: &str, path: &mut Vec<String>, is_public: bool, found: &mut Vec<Import>) {
    let depth = path.len();
    let (stem, list) = match tree.split_once('{') {
        Some((stem, list)) => (stem, Some(list.trim_end().strip_suffix('}').expect("a list that ends"))),
        None => (tree, None),
    };
    path.extend(stem.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    match list {
        Some(list) => {
            for member in members(list) {
                branches(member.trim(), path, is_public, found);
            }
        }
        None => found.push(import(path.clone(), is_public)),
    }
    path.truncate(depth);
}

/// The declaration of one path, which may end in `as name` or in `self`.
fn import(mut path: Vec<String>, is_public: bool) -> Import {
    let last = path.pop().expect("a path has a name");
    let (last, alias) = match last.split_once(" as ") {
        Some((last, alias)) => (last.to_owned(), Some(alias.to_owned())),
        None => (last, None),
    };
    if last != "self" || path.is_empty() {
        path.push(last);
    }
    let name = alias.unwrap_or_else(|| path.last().expect("a path has a name").clone());
    Import { path, name, is_public }
}

/// The members of a list that may hold lists.
fn members(list: &str) -> Vec<String> {
    let (mut depth, mut found) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().expect("a member").push(c);
    }
    found.retain(|member| !member.trim().is_empty());
    found
}

/// The paths in code without `use` declarations: at least two names that `::` joins.
pub(super) fn paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").map(|name| name.trim_matches(':').to_owned()).collect()).collect()
}

/// The positions where code names a path, except for longer names that only begin or end like it.
pub(super) fn positions(code: &str, path: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |at: usize| !code[..at].ends_with(is_name);
    let ends = |at: usize| path.ends_with(':') || !code[at + path.len()..].starts_with(is_name);
    code.match_indices(path).map(|(at, _)| at).filter(|at| begins(*at) && ends(*at)).collect()
}

#[test]
fn the_scan_finds_every_form_of_naming_a_module() {
    let code = "use crate::{app, telemetry::{self, init as start},\n    bus};\npub(crate) use part::Part;\nf(crate::x::y::<A>());\n";
    let (found, rest) = imports(code);
    let seen: Vec<_> =
        found.iter().map(|import| (import.path.join("::"), &*import.name, import.is_public)).collect();
    let expected = [
        ("crate::app", "app", false),
        ("crate::telemetry", "telemetry", false),
        ("crate::telemetry::init", "start", false),
        ("crate::bus", "bus", false),
        ("part::Part", "Part", true),
    ];
    assert_eq!(seen, expected.map(|(path, name, is_public)| (path.to_owned(), name, is_public)));
    assert_eq!(paths(&rest), [["crate", "x", "y", ""]]);
    assert_eq!(positions("use hyper::x; my_hyper::y; hyper_util::z", "hyper::"), [4]);
    assert_eq!(positions("std::environment std::env; (std::env::vars())", "std::env"), [17, 28]);
    assert_eq!(positions("std::env::vars() env::args()", "env::"), [5, 17]);
    let commented =
        Source { path: "a.rs".into(), text: "//! [`crate::bus`]\nf(); // crate::store\n".to_owned() };
    assert_eq!(commented.code(), "\nf(); \n");
}
