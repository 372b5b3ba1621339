//! Every fenced block of every page has a kind, and each kind has a check:
//!
//! - `console`: run step by step against an embedded server, see `console`;
//! - `json`: compared with the source that the note before it names, see `answers`;
//! - `sh`: checked, see `shell`;
//! - `toml`: read as a file of settings;
//! - `sql`: run on Postgres with the tables of this version;
//! - `rust`, `python`, `proto`, `yaml`: a part of the file that the note `file: PATH` names;
//! - `mermaid`: begins with a kind of diagram;
//! - `text`: none; listed below with the reason.

use super::console::Session;
use super::page::{Block, Page, file, pages};
use super::server::program;
use super::shell;
use crate::harness::schema::Schema;

/// Blocks that no test checks: the page, a line of the block, and the reason.
const UNCHECKED: [(&str, &str, &str); 0] = [];

#[test]
fn every_block_of_every_page_matches_the_program() {
    let mut wrong = Vec::new();
    // A translation has the blocks of its page; another test compares them.
    for page in pages().iter().filter(|page| page.path != "README.ru.md") {
        let mut session = Session::new();
        for block in page.blocks() {
            if let Err(reason) = check(page, &block, &mut session) {
                wrong.push(format!("{}:{} ({}): {reason}", page.path, block.line, block.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{} blocks are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_block_listed_as_unchecked_exists() {
    for (path, line, _) in UNCHECKED {
        let exists = Page::read(path).blocks().iter().any(|block| is_exempt(path, block));
        assert!(exists, "{path} has no block of text with the line {line:?}; take it out of UNCHECKED");
    }
}

fn is_exempt(path: &str, block: &Block) -> bool {
    UNCHECKED.iter().any(|(page, line, _)| *page == path && block.text.lines().any(|it| it.trim() == *line))
}

fn check(page: &Page, block: &Block, session: &mut Session) -> Result<(), String> {
    match block.kind.as_str() {
        "console" => session.console(block),
        "json" => session.json(block),
        "sh" => shell::check(&block.text),
        "toml" => settings(&block.text),
        "sql" => {
            sql(&block.text);
            Ok(())
        }
        "rust" | "python" | "proto" | "yaml" => part_of_file(block),
        "mermaid" => {
            let kinds = ["flowchart", "sequenceDiagram", "stateDiagram-v2"];
            let is_known = kinds.iter().any(|kind| block.text.starts_with(kind));
            is_known.then_some(()).ok_or_else(|| format!("a diagram begins with one of {kinds:?}"))
        }
        "text" if is_exempt(&page.path, block) => Ok(()),
        "text" => {
            Err("nothing checks a block of text; give it another kind, or list it in UNCHECKED".to_owned())
        }
        kind => Err(format!("{kind:?} is not a kind of block that a test knows")),
    }
}

/// Whether a text can be read as a file of settings.
fn settings(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("orderstream.toml"), text).expect("a file");
    let output = program(folder.path(), &["config"]).output().expect("the program starts");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(message)
}

fn sql(text: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { Schema::migrated().await.execute(text).await });
}

fn part_of_file(block: &Block) -> Result<(), String> {
    let path = block.note.as_deref().and_then(|note| note.strip_prefix("file: "));
    let path =
        path.ok_or("say in a comment before it which file it is from, as `file: examples/consumer.py`")?;
    let is_part = file(path).contains(&block.text);
    is_part.then_some(()).ok_or_else(|| format!("{path} does not contain these lines as they are"))
}
