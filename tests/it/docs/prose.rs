//! The style of the pages: lines of prose wrap at 120 characters, and no sentence has a word that hides its subject.
//! Tables and code may be wider, and names of tests and messages of the log are not checked.

use super::page::pages;

/// The widest line of prose.
const WIDTH: usize = 120;

/// Words that say neither caller nor client, process nor operator.
const VAGUE: [&str; 8] =
    ["whoever", "whatever", "somebody", "anybody", "everybody", "nobody", "anyone", "everyone"];

#[test]
fn prose_wraps_and_names_its_subjects() {
    let mut wrong = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            // Names of tests and messages of the log stand in code, which is not checked.
            let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
            let words = plain.split(|c: char| !c.is_alphanumeric());
            let vague: Vec<&str> = words.filter(|word| VAGUE.contains(word)).collect();
            if !vague.is_empty() {
                wrong.push(format!("{}:{number}: {vague:?}", page.path));
            }
            let is_prose = !line.starts_with('|') && !line.starts_with("<!--") && !line.starts_with("[![");
            if is_prose && line.chars().count() > WIDTH {
                wrong.push(format!("{}:{number}: {} characters", page.path, line.chars().count()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
