//! Words and widths of all texts. The files for readers have neither words that hide the subject of a sentence nor "is
//! no X", and their lines, like those of the tests, are at most 120 columns wide.

use std::fs;
use std::path::{Path, PathBuf};

/// The widest line.
const WIDTH: usize = 120;

/// The files and folders whose words are checked.
const READ: [&str; 12] = [
    "src",
    "docs",
    "examples",
    "scripts",
    "README.md",
    "README.ru.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "orderstream.default.toml",
    "openapi.json",
    "asyncapi.json",
];

/// Words that stand for a caller, a client, a process or an operator, and hide which.
const VAGUE: [&str; 9] =
    ["whoever", "whatever", "somebody", "someone", "anybody", "anyone", "everybody", "everyone", "nobody"];

/// Words that may follow "is no": comparisons, which have no plainer form.
const COMPARISONS: [&str; 6] = ["longer", "more", "less", "newer", "older", "later"];

/// Quotations: the file, a part of the line, and the reason why it stays.
const QUOTED: [(&str, &str, &str); 0] = [];

/// A text file of the repository: its path from the root, and its lines.
struct File {
    path: PathBuf,
    lines: Vec<String>,
}

impl File {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own == extension)
    }
}

/// The text files of a folder, or the file of that name. Folders of caches are left out.
fn files(name: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut left) = (Vec::new(), vec![root.join(name)]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            if !path.ends_with("__pycache__") {
                let entries = fs::read_dir(&path).expect("a folder");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Ok(text) = String::from_utf8(bytes) {
            let path = path.strip_prefix(root).expect("a path under the root").to_owned();
            found.push(File { path, lines: text.lines().map(str::to_owned).collect() });
        }
    }
    found
}

/// A line without the mark of its comment.
fn uncommented(line: &str) -> &str {
    let line = line.trim_start();
    ["//!", "///", "//", "#", "--"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line)
}

/// The forbidden words of some lines: the index of the line, and the word.
fn forbidden(lines: &[String]) -> Vec<(usize, String)> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    // The words before the current one, each without its punctuation: "is no" may be broken between two lines.
    let mut before = [String::new(), String::new(), String::new()];
    for (index, line) in lines.iter().enumerate() {
        for word in uncommented(line).replace("\\n", " ").to_lowercase().split_whitespace() {
            let vague = word.split(|c| !is_letter(c)).filter(|part| VAGUE.contains(part));
            found.extend(vague.map(|part| (index, part.to_owned())));
            let next = word.trim_matches(|c| !is_letter(c));
            let [there, is, no] = &before;
            let is_found = matches!(is.as_str(), "is" | "are") && no == "no" && there != "there";
            if is_found && !COMPARISONS.contains(&next) {
                found.push((index, format!("{is} no {next}")));
            }
            before.rotate_left(1);
            // Empty behind punctuation, which ends the phrase.
            before[2] = word.rsplit(|c| !is_letter(c)).next().unwrap_or_default().to_owned();
        }
    }
    found
}

#[test]
fn no_file_has_a_forbidden_word() {
    let (mut wrong, mut used) = (Vec::new(), [false; QUOTED.len()]);
    for file in READ.into_iter().flat_map(files) {
        for (index, word) in forbidden(&file.lines) {
            let is_quoted = |(path, part, _): &&(&str, &str, &str)| {
                file.path == Path::new(path) && file.lines[index].contains(part)
            };
            match QUOTED.iter().position(|quotation| is_quoted(&quotation)) {
                Some(at) => used[at] = true,
                None => wrong.push(format!("{}:{}: {word:?}", file.path.display(), index + 1)),
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden words:\n{}", wrong.join("\n"));
    assert!(used.iter().all(|used| *used), "a listed quotation does not exist: {used:?}");
}

#[test]
fn no_line_is_wider_than_the_limit() {
    let mut wrong = Vec::new();
    for file in READ.into_iter().chain(["tests"]).flat_map(files) {
        // The documents are generated, and a description is one line there; golden messages are data.
        if file.has_extension("json") {
            continue;
        }
        let (is_page, is_rust) = (file.has_extension("md"), file.has_extension("rs"));
        let mut is_sample = false;
        for (index, line) in file.lines.iter().enumerate() {
            let text = line.trim_start();
            is_sample ^= is_page && text.starts_with("```");
            // rustfmt keeps code within the limit, except for literals, whose breaks may have a meaning.
            let is_code = is_rust && !text.starts_with("//");
            let is_link = text.contains("](") || text.contains("://");
            let may_be_wide = is_sample || is_code || is_link || text.starts_with('|');
            let width = line.chars().count();
            if width > WIDTH && !may_be_wide {
                wrong.push(format!("{}:{}: {width} columns", file.path.display(), index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "lines of more than {WIDTH} columns:\n{}", wrong.join("\n"));
}

#[test]
fn the_scan_finds_words_in_code_comments_and_across_lines() {
    let text = "/// Wakes whoever waits. It is\n/// no error; there are no others, and it is no longer there.\n\
                let nobody = 1; // rolling_nobody_waiting\nformat!(\"there is no order\")\n\"description\": \"They are no event\"";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let found = forbidden(&lines);
    let expected = [(0, "whoever"), (1, "is no error"), (2, "nobody"), (4, "are no event")];
    assert_eq!(found, expected.map(|(index, word)| (index, word.to_owned())));
}
