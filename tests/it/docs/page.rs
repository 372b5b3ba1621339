//! The pages of the documentation, and their content: headings, tables, prose and fenced blocks. The reader knows as
//! much of Markdown as the pages use. A fence that is not closed is an error.

use std::fs;
use std::path::{Path, PathBuf};

/// A page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// Its path under the root of the repository, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The line of its opening fence, from 1.
    pub(super) line: usize,
    /// The word after the fence.
    pub(super) kind: String,
    /// The HTML comment right before it, without its marks.
    pub(super) note: Option<String>,
    pub(super) text: String,
}

/// The root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub(super) fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below a folder of the repository whose names have that ending, in order.
pub(super) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).expect("a path below the root").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The pages whose blocks are checked: those that a reader begins with, and all of `docs/`.
pub(super) fn pages() -> Vec<Page> {
    let at_root = ["README.md", "README.ru.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md"]
        .map(PathBuf::from);
    let all = at_root.into_iter().chain(files("docs", ".md"));
    all.map(|path| Page::read(path.to_str().expect("a name in Unicode"))).collect()
}

impl Page {
    pub(super) fn read(path: &str) -> Page {
        Page { path: path.to_owned(), text: file(path) }
    }

    /// Its fenced blocks, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open, mut note) = (Vec::new(), None::<(Block, usize)>, None);
        for (number, line) in (1..).zip(self.text.lines()) {
            let bare = line.trim_start();
            match (&mut open, bare.strip_prefix("```")) {
                (Some((block, _)), Some("")) => {
                    blocks.push(block.clone());
                    open = None;
                }
                // A block within an item of a list has the indentation of its fence.
                (Some((block, indent)), _) => {
                    let cut = line.len().min(*indent);
                    block.text += line.get(cut..).unwrap_or_default();
                    block.text.push('\n');
                }
                (None, Some(kind)) => {
                    let (kind, note) = (kind.trim().to_owned(), note.take());
                    let block = Block { line: number, kind, note, text: String::new() };
                    open = Some((block, line.len() - bare.len()));
                }
                (None, None) => {
                    let comment = bare.strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
                    match comment {
                        Some(text) => note = Some(text.trim().to_owned()),
                        None if !bare.is_empty() => note = None,
                        None => {}
                    }
                }
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", self.path);
        blocks
    }

    /// Its lines outside of fenced blocks, each with its number.
    pub(super) fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_fenced = false;
        let mut prose = Vec::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            } else if !is_fenced {
                prose.push((number, line));
            }
        }
        prose
    }

    /// Its headings: the level of each and its text.
    pub(super) fn headings(&self) -> Vec<(usize, &str)> {
        let heading = |line: &'_ str| {
            let level = line.chars().take_while(|c| *c == '#').count();
            (level > 0 && line[level..].starts_with(' ')).then_some(level)
        };
        let prose = self.prose().into_iter();
        prose.filter_map(|(_, line)| heading(line).map(|level| (level, line[level..].trim()))).collect()
    }

    /// The rows of its tables: the cells of each, without the rows that separate a head from its body. A `\|` within a
    /// cell is a bar.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let cells = |line: &str| -> Vec<String> {
            let line = line.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{0}");
            line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
        };
        let is_rule = |line: &str| line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
        let prose = self.prose().into_iter().map(|(_, line)| line);
        prose.filter(|line| line.starts_with('|') && !is_rule(line)).map(cells).collect()
    }
}

#[test]
fn blocks_are_read_with_their_notes_and_without_their_indentation() {
    let text = "# A\n<!-- golden: x -->\n```json\n{}\n```\n- b\n\n  ```console\n  $ ls\n  a\n  ```\ntext\n";
    let page = Page { path: "a.md".to_owned(), text: text.to_owned() };
    let blocks = page.blocks();
    assert_eq!(blocks.len(), 2);
    assert_eq!((blocks[0].kind.as_str(), blocks[0].note.as_deref()), ("json", Some("golden: x")));
    assert_eq!((blocks[0].text.as_str(), blocks[0].line), ("{}\n", 3));
    assert_eq!((blocks[1].text.as_str(), blocks[1].note.as_deref()), ("$ ls\na\n", None));
    assert_eq!(page.headings(), [(1, "A")]);
}

#[test]
fn rows_of_tables_are_read_cell_by_cell() {
    let text = "| a | b |\n|---|--:|\n| `x \\| y` | 2 |\n";
    let page = Page { path: "a.md".to_owned(), text: text.to_owned() };
    assert_eq!(page.rows(), [["a", "b"], ["`x | y`", "2"]]);
}
