//! The generated part of docs/configuration.md: each setting with its names, its default and its comment in
//! `orderstream.default.toml`, in the order of that file. The part above the mark is written by hand.
//!
//! `make docs` writes the generated part again.

use std::fs;

use orderstream::config::{KEYS, Key};

use super::page::{file, root};

const PAGE: &str = "docs/configuration.md";

/// The line between the part that is written by hand and the generated one.
const MARK: &str =
    "<!-- Generated from orderstream.default.toml by `make docs`; edit that file instead. -->\n";

/// The variable that makes the test write the page; `make docs` sets it.
const WRITE: &str = "ORDERSTREAM_WRITE_DOCS";

#[test]
fn the_page_of_settings_is_the_default_file_as_prose() {
    let page = file(PAGE);
    let (by_hand, _) = page.split_once(MARK).expect("the mark is in the page");
    let fresh = format!("{by_hand}{MARK}\n{}", generated(&file("orderstream.default.toml")));
    if std::env::var_os(WRITE).is_some() {
        fs::write(root().join(PAGE), fresh).expect("the page can be written");
        return;
    }
    assert!(page == fresh, "{PAGE} is stale: run `make docs`");
}

/// The settings as a page, section by section.
fn generated(defaults: &str) -> String {
    let (mut page, mut comment, mut count) = (String::new(), Vec::new(), 0);
    for line in defaults.lines() {
        if let Some(title) = line.strip_prefix("# --- ") {
            page += &format!("## {}\n\n", title.trim_end_matches(['-', ' ']));
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some((name, value)) = line.split_once(" = ") {
            let key =
                KEYS.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("{name} is not a setting"));
            page += &setting(key, value, &comment);
            count += 1;
        } else {
            comment.clear();
        }
    }
    assert_eq!(count, KEYS.len(), "orderstream.default.toml lacks a setting");
    page.trim_end().to_owned() + "\n"
}

/// One setting. The comment begins with its variable, and perhaps with `(secret ...)`.
fn setting(key: &Key, value: &str, comment: &[&str]) -> String {
    let variable = key.name.to_ascii_uppercase();
    let flag = format!("--{}", key.name.replace('_', "-"));
    let text = comment.join(" ");
    let (head, text) = text.split_once(": ").expect("NAME: what it is");
    assert!(head.starts_with(&variable), "the comment on {variable} begins with {head}");
    let secret = match key.file_name() {
        Some(name) => format!(
            " It is a secret: it is never shown, and `{}` names a file that holds it.",
            name.to_ascii_uppercase()
        ),
        None => String::new(),
    };
    let default = match value {
        "\"\"" | "[]" => "Not set by default.".to_owned(),
        value => format!("Default: `{value}`."),
    };
    format!(
        "### {variable}\n\n{}\n\n{}\n\n",
        wrapped(&first_upper(text)),
        wrapped(&format!("{default} In a file `{}`, as a flag `{flag}`.{secret}", key.name))
    )
}

fn first_upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

/// A paragraph in lines of at most 120 characters. Characters with a meaning in Markdown are escaped.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let word =
            if word.contains('`') { word.to_owned() } else { word.replace('*', "\\*").replace('<', "&lt;") };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 120 {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += &word;
    }
    lines.push(line);
    lines.join("\n")
}
