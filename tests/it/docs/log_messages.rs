//! docs/log-messages.md lists every line that the program can log as a warning or an error: the literals of `warn!`,
//! `error!` and `limited!` in src, where `…` stands for each placeholder. The page describes in prose the lines that
//! are one placeholder, such as a warning about the settings.

use std::collections::BTreeSet;

use super::page::{Page, file, files};

/// A level and a message.
type Line = (String, String);

#[test]
fn the_page_of_log_messages_lists_exactly_the_warnings_and_errors() {
    let mut logged = BTreeSet::new();
    for path in files("src", ".rs") {
        logged.extend(messages(&file(&path.to_string_lossy())));
    }
    assert!(logged.len() > 40, "the scan found almost nothing: {}", logged.len());
    let is_message = |row: &&Vec<String>| row.len() == 4 && matches!(row[0].as_str(), "`WARN`" | "`ERROR`");
    let rows = Page::read("docs/log-messages.md").rows();
    let listed: BTreeSet<Line> = rows
        .iter()
        .filter(is_message)
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].trim_matches('`').to_owned()))
        .collect();
    let row = |(level, message): &Line, other: &BTreeSet<Line>| {
        let nearest = other.iter().map(|(_, it)| it).min_by_key(|it| strsim::osa_distance(it, message));
        format!("| `{level}` | `{message}` | … | … |   (the nearest is {nearest:?})")
    };
    let missing: Vec<_> = logged.difference(&listed).map(|line| row(line, &listed)).collect();
    let surplus: Vec<_> = listed.difference(&logged).map(|line| row(line, &logged)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "docs/log-messages.md lacks these rows:\n{}\nand has these that src does not log:\n{}",
        missing.join("\n"),
        surplus.join("\n")
    );
}

/// The warnings and errors that a source logs.
fn messages(source: &str) -> Vec<Line> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let macros = [("warn!(", Some("WARN")), ("error!(", Some("ERROR")), ("limited!(", None)];
    let mut found = Vec::new();
    for (name, level) in macros {
        for (at, _) in code.match_indices(name) {
            let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let body = &code[at + name.len()..];
            let level =
                level.or_else(|| match body.trim_start().split(|c: char| !c.is_alphanumeric()).next() {
                    Some("warn") => Some("WARN"),
                    Some("error") => Some("ERROR"),
                    _ => None,
                });
            let literals = literals(body);
            // The first literal of `limited!` is the kind of line.
            let message = literals.get(usize::from(name == "limited!("));
            if let (true, Some(level), Some(message)) = (is_whole, level, message)
                && !message.trim_matches('…').is_empty()
            {
                found.push((level.to_owned(), message.clone()));
            }
        }
    }
    found
}

/// The string literals of a macro's arguments that are neither values of fields nor within other brackets.
fn literals(body: &str) -> Vec<String> {
    let (mut found, mut depth, mut before) = (Vec::new(), 1, ' ');
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => {
                let text = literal(&mut chars);
                if depth == 1 && before != '=' {
                    found.push(text);
                }
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    found
}

/// The text of a literal whose opening quote has been read, with `…` for each placeholder.
fn literal(chars: &mut std::str::Chars<'_>) -> String {
    let (mut text, mut is_placeholder) = (String::new(), false);
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => {
                    let rest = chars.as_str();
                    *chars = rest.trim_start().chars();
                }
                Some(escaped) => text.push(escaped),
                None => {}
            },
            '{' => {
                is_placeholder = true;
                text.push('…');
            }
            '}' => is_placeholder = false,
            c if !is_placeholder => text.push(c),
            _ => {}
        }
    }
    text
}

#[test]
fn messages_are_found_in_every_form_of_logging() {
    let line = |level: &str, message: &str| (level.to_owned(), message.to_owned());
    let source = r#"
        tracing::warn!(partition, name = "x", "a {name} \
            b");
        limited!(error, "kind"; %error, reason = f("y"), "c");
        limited!(info, "kind"; "not this");
        tracing::error!("{error:#}");
        // tracing::warn!("nor this");
        my_error!("nor this");
        #[error("nor this")]
    "#;
    assert_eq!(messages(source), [line("WARN", "a … b"), line("ERROR", "c")]);
}
