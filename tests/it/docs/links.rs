//! Links between the pages: each relative link leads to a file that exists, each anchor to a heading of that page, and
//! every page of docs/ is in the summary of the book. The tests do not follow links to other hosts.

use std::collections::BTreeSet;
use std::path::Path;

use super::page::{Page, file, files, pages, root};

/// The targets of the links in a line: `[text](target)`, except within code.
fn targets(line: &str) -> Vec<String> {
    // Every second piece between backquotes is code.
    let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("` `");
    let pieces = plain.split("](").skip(1);
    pieces.filter_map(|piece| piece.split(')').next()).map(|it| it.trim().to_owned()).collect()
}

/// The anchor that a heading has on the usual forges and in the book.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

fn anchors(page: &Page) -> Vec<String> {
    page.headings().iter().map(|(_, heading)| anchor(heading)).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        for (number, line) in page.prose() {
            for target in targets(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, fragment) = target.split_once('#').unwrap_or((&target, ""));
                let folder = Path::new(&page.path).parent().expect("a file is in a folder");
                let path = if path.is_empty() { page.path.clone().into() } else { folder.join(path) };
                let has = |text: &str| anchors(&Page { path: String::new(), text: text.to_owned() });
                let is_fine = root().join(&path).exists()
                    && (fragment.is_empty()
                        || has(&file(&path.to_string_lossy())).iter().any(|it| it == fragment));
                if !is_fine {
                    broken.push(format!("{}:{number}: {target}", page.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn the_summary_of_the_book_and_the_index_name_every_page() {
    let pages: BTreeSet<String> = files("docs", ".md")
        .iter()
        .map(|path| path.strip_prefix("docs").expect("a path in docs").to_string_lossy().into_owned())
        .filter(|path| path != "SUMMARY.md")
        .collect();
    let listed = |name: &str| -> Vec<String> {
        let page = Page::read(name);
        let all = page.prose().into_iter().flat_map(|(_, line)| targets(line));
        all.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
    };
    let summary = listed("docs/SUMMARY.md");
    let missing: Vec<_> = pages.iter().filter(|page| !summary.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not name {missing:?}");
    let index = listed("docs/README.md");
    let is_reachable = |page: &&String| {
        *page == "README.md"
            || index.contains(page)
            || page.starts_with("architecture/")
            || page.starts_with("decisions/")
    };
    let missing: Vec<_> = pages.iter().filter(|page| !is_reachable(page)).collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

#[test]
fn the_readme_is_short() {
    for name in ["README.md", "README.ru.md"] {
        let lines = file(name).lines().count();
        assert!(lines <= 150, "{name} has {lines} lines; move what is more than 150 into docs/");
    }
}

#[test]
fn links_and_anchors_are_read_like_forges_do() {
    assert_eq!(targets("see [a](b.md#c), [d](e) and `[x](y)`"), ["b.md#c", "e"]);
    assert_eq!(anchor("Safe retries (idempotency keys)"), "safe-retries-idempotency-keys");
    assert_eq!(anchor("`POST /orders`: create, update"), "post-orders-create-update");
}
