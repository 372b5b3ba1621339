//! The sizes of the sources: how long a file and a function may be, and that each file begins with a `//!` that states
//! its promise, in the program in a few lines. The length of a function is counted in lines, with rustfmt's indentation
//! as the guide.

use std::ops::RangeInclusive;

use super::sources::{Source, sources};

/// The most lines of a file.
const FILE_LINES: usize = 400;

/// The lines of the `//!` with which a file of the program begins: fewer do not say what the file relies on and what it
/// must never do.
const HEADER_LINES: RangeInclusive<usize> = 3..=10;

/// The file whose `//!` may be longer: it is the front page of the crate's documentation.
const FRONT_PAGE: &str = "lib.rs";

/// The most lines of a function of the program, from `fn` to its closing brace. Functions of tests may be longer.
const FUNCTION_LINES: usize = 70;

/// The functions of a file: the line in which each begins, and how many lines it has. rustfmt indents the closing brace
/// like the line of the `fn`.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_function = |line: &str| {
        let words: Vec<&str> = line
            .split_whitespace()
            .take_while(|word| !word.contains('(') || word.starts_with("pub("))
            .collect();
        let qualifiers = ["pub", "async", "const", "extern", "unsafe"];
        let at = words.iter().position(|word| *word == "fn");
        let begins = |at: usize| {
            words[..at]
                .iter()
                .all(|word| qualifiers.contains(word) || word.starts_with("pub(") || word.ends_with(')'))
        };
        at.map_or_else(|| line.trim_start().starts_with("fn "), begins)
    };
    let length = |start: usize| {
        let end = format!("{}}}", " ".repeat(indent(lines[start])));
        let declared = lines[start..].iter().position(|line| line.trim_end().ends_with([';', '{', '}']));
        let declared = declared.expect("a function that ends");
        // A declaration in a trait, or a body in the same line.
        if !lines[start + declared].trim_end().ends_with('{') {
            return declared + 1;
        }
        let body = lines[start..].iter().position(|line| **line == *end);
        body.expect("a function that ends") + 1
    };
    let starts = (0..lines.len()).filter(|at| is_function(lines[*at]));
    starts.map(|start| (start + 1, length(start))).collect()
}

#[test]
fn a_function_is_measured_from_its_name_to_its_brace() {
    let text = "pub(crate) async fn f(\n    a: u8,\n) -> u8 {\n    if a > 1 {\n    }\n    a\n}\n\ntrait T {\n    fn g(&self);\n    fn h() {}\n}\n";
    assert_eq!(functions(text), [(1, 7), (10, 1), (11, 1)]);
}

#[test]
fn a_file_begins_with_its_promise_and_stays_below_the_limit() {
    for source in sources("src").into_iter().chain(sources("tests")).chain(sources("examples")) {
        let (path, lines) = (source.path.display(), source.text.lines().count());
        assert!(source.text.starts_with("//! "), "{path} does not open with a `//!`");
        assert!(lines <= FILE_LINES, "{path} has {lines} lines; the limit is {FILE_LINES}");
    }
}

#[test]
fn a_file_of_the_program_states_its_promise_in_a_few_lines() {
    for source in sources("src").into_iter().filter(|source| source.path.as_os_str() != FRONT_PAGE) {
        let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        let path = source.path.display();
        assert!(
            HEADER_LINES.contains(&lines),
            "{path} opens with a `//!` of {lines} lines; {HEADER_LINES:?} are wanted"
        );
    }
}

#[test]
fn a_function_stays_below_its_limit() {
    let sources = sources("src");
    let count = |source: &Source| {
        for (line, length) in functions(&source.text) {
            let path = source.path.display();
            assert!(
                length <= FUNCTION_LINES,
                "{path}:{line} has {length} lines; the limit is {FUNCTION_LINES}"
            );
        }
        functions(&source.text).len()
    };
    let found: usize = sources.iter().map(count).sum();
    assert!(found > 1000, "the scan found almost nothing: {found}");
}
