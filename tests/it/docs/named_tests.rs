//! Pages name tests as the proof of a promise, and each of these tests exists. A cell of a table that begins with
//! `test:` names them. A test that is renamed and not updated on its page fails here.

use super::page::{file, files, pages};

#[test]
fn every_test_that_a_page_names_exists() {
    let all: Vec<String> = ["tests", "src"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .flat_map(|path| {
            let text = file(&path.to_string_lossy());
            let names = text
                .lines()
                .filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            names.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in pages() {
        for cell in page.rows().into_iter().flatten() {
            let Some(names) = cell.strip_prefix("test: ") else { continue };
            for name in names.split(", ").map(|name| name.trim_matches('`')) {
                count += 1;
                if !all.iter().any(|it| it == name) {
                    let nearest = all.iter().min_by_key(|it| strsim::osa_distance(it, name));
                    missing.push(format!("{}: {name}; the nearest is {nearest:?}", page.path));
                }
            }
        }
    }
    assert!(missing.is_empty(), "these tests do not exist:\n{}", missing.join("\n"));
    assert!(count > 20, "the pages name almost no test: {count}");
}
