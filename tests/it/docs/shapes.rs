//! The comparison of a page with the output of the program. Ids and times match by their shape. The real id for each id
//! of the page is kept, so that later commands of the page can name it. A line `...` stands for any lines, and `…`
//! within a line for any text.

use std::collections::BTreeMap;

/// The real ids for the ids of a page.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// The real id of each id in the page.
    ids: BTreeMap<String, String>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A UUID.
    Id(String),
    /// A time in RFC 3339, UTC.
    Time,
    /// The bucket of an order, which follows from an id that the server chose.
    Bucket,
    /// Any text.
    Any,
}

impl Shapes {
    /// The command of a page with the real ids in it. An id that no answer had before is the page's own, and stays.
    pub(super) fn real(&mut self, text: &str) -> String {
        let mut real = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(id) = id(rest) {
                real += self.ids.entry(id.to_owned()).or_insert_with(|| id.to_owned());
                rest = &rest[id.len()..];
            } else {
                let c = rest.chars().next().expect("a character");
                real.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        real
    }

    /// Compares an output with the text of the page.
    ///
    /// # Errors
    /// The first line that differs.
    pub(super) fn compare(&mut self, shown: &str, actual: &str) -> Result<(), String> {
        let (shown, actual): (Vec<&str>, Vec<&str>) =
            (shown.trim_end().lines().collect(), actual.trim_end().lines().collect());
        self.lines(&shown, &actual)
    }

    fn lines(&mut self, shown: &[&str], actual: &[&str]) -> Result<(), String> {
        match (shown, actual) {
            ([], []) => Ok(()),
            (["...", rest @ ..], _) => {
                let mut last = Err("nothing follows the lines that are left out".to_owned());
                for from in 0..=actual.len() {
                    let known = self.ids.clone();
                    last = self.lines(rest, &actual[from..]);
                    if last.is_ok() {
                        return last;
                    }
                    self.ids = known;
                }
                last
            }
            ([], [line, ..]) => Err(format!("the page does not show: {line}")),
            ([line, ..], []) => Err(format!("there is no such line: {line}")),
            ([line, shown @ ..], [other, actual @ ..]) => {
                if !self.line(&parts(line), &parts(other), other) {
                    return Err(format!("the page shows: {line}\nbut it is:      {other}"));
                }
                self.lines(shown, actual)
            }
        }
    }

    fn line(&mut self, shown: &[Part], actual: &[Part], line: &str) -> bool {
        let Some(at) = shown.iter().position(|part| *part == Part::Any) else {
            return shown.len() == actual.len()
                && shown.iter().zip(actual).all(|(shown, actual)| self.part(shown, actual));
        };
        // Part by part up to the first `…`; the texts after it must follow in the line in their order.
        let begins = at == 0 || {
            let (before, last) = (&shown[..at - 1], &shown[at - 1]);
            before.iter().zip(actual).all(|(shown, actual)| self.part(shown, actual))
                && match (last, actual.get(at - 1)) {
                    (Part::Text(text), Some(Part::Text(other))) => other.starts_with(text.as_str()),
                    (shown, Some(actual)) => self.part(shown, actual),
                    (_, None) => false,
                }
        };
        let mut from = 0;
        begins
            && shown[at..].iter().all(|part| match part {
                Part::Text(text) => match line[from..].find(text.as_str()) {
                    Some(found) => {
                        from += found + text.len();
                        true
                    }
                    None => false,
                },
                _ => true,
            })
    }

    fn part(&mut self, shown: &Part, actual: &Part) -> bool {
        match (shown, actual) {
            (Part::Id(shown), Part::Id(actual)) => {
                self.ids.entry(shown.clone()).or_insert_with(|| actual.clone()) == actual
            }
            (shown, actual) => shown == actual,
        }
    }
}

/// The UUID at the beginning of a text, in its usual form.
fn id(text: &str) -> Option<&str> {
    let candidate = text.get(..36)?;
    let fits = |(at, c): (usize, char)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    };
    candidate.chars().enumerate().all(fits).then_some(candidate)
}

/// The length of the time at the beginning of a text: `2026-11-22T17:17:47.107552Z`, or with fewer digits.
fn time(text: &str) -> Option<usize> {
    let head = text.get(..19)?;
    let fits = |(at, c): (usize, char)| match at {
        4 | 7 => c == '-',
        10 => c == 'T',
        13 | 16 => c == ':',
        _ => c.is_ascii_digit(),
    };
    head.chars().enumerate().all(fits).then_some(())?;
    let digits = text[19..].find(|c: char| c != '.' && !c.is_ascii_digit())?;
    text[19 + digits..].starts_with('Z').then_some(19 + digits + 1)
}

fn parts(line: &str) -> Vec<Part> {
    const BUCKET: &str = "\"bucket\":";
    let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), line);
    let mut push = |text: &mut String, part: Part| {
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(text)));
        }
        parts.push(part);
    };
    while let Some(c) = rest.chars().next() {
        if let Some(id) = id(rest) {
            push(&mut text, Part::Id(id.to_owned()));
            rest = &rest[id.len()..];
        } else if let Some(length) = time(rest) {
            push(&mut text, Part::Time);
            rest = &rest[length..];
        } else if rest.starts_with(BUCKET) && rest[BUCKET.len()..].starts_with(|c: char| c.is_ascii_digit()) {
            push(&mut text, Part::Bucket);
            rest = &rest[BUCKET.len() + 1..];
        } else if c == '…' {
            push(&mut text, Part::Any);
            rest = &rest[c.len_utf8()..];
        } else {
            text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

#[test]
fn ids_match_by_shape_and_keep_their_meaning_on_a_page() {
    const A: &str = "01a20443-92e3-7530-a3ef-ccb67791f0cf";
    const B: &str = "01a214d7-f295-77a0-9d56-d6f8600e4dc7";
    let mut shapes = Shapes::default();
    let at = "2026-11-22T17:17:47.107552Z";
    let shown = format!(r#"{{"order_id":"{A}","at":"{at}","bucket":3}}"#);
    let actual = format!(r#"{{"order_id":"{B}","at":"2026-11-27T09:00:00Z","bucket":0}}"#);
    assert_eq!(shapes.compare(&shown, &actual), Ok(()));
    assert_eq!(shapes.real(&format!("get {A} '{{}}'")), format!("get {B} '{{}}'"));
    assert!(shapes.compare(&shown, &shown).is_err());
    assert!(shapes.compare(&shown, &actual.replace("bucket", "version")).is_err());
}

#[test]
fn an_id_from_a_command_stands_for_itself() {
    const OWN: &str = "0b2f6c1e-3d4a-4f5b-8c6d-7e8f90a1b2c3";
    let mut shapes = Shapes::default();
    assert_eq!(shapes.real(OWN), OWN);
    assert!(shapes.compare(OWN, "01a214d7-f295-77a0-9d56-d6f8600e4dc7").is_err());
    assert_eq!(shapes.compare(OWN, OWN), Ok(()));
}

#[test]
fn ellipses_match_any_text() {
    let mut shapes = Shapes::default();
    assert_eq!(shapes.compare("a\n...\nd\n", "a\nb\nc\nd\n"), Ok(()));
    assert_eq!(shapes.compare("a\n...\n", "a\n"), Ok(()));
    assert!(shapes.compare("a\n...\ne\n", "a\nb\nd\n").is_err());
    assert_eq!(shapes.compare("cursor: …; end", "cursor: abc; end"), Ok(()));
    assert!(shapes.compare("cursor: …; end", "cursor: abc; no").is_err());
    assert!(shapes.compare("x: …", "y: abc").is_err());
}
