//! The table of problems in docs/http-api.md equals the table in the code: each code with its HTTP status, its gRPC
//! code and whether a retry helps. The table in src/api/problem.rs is the source; the page follows it.

use orderstream::api::problem::TABLE;

use super::page::Page;

#[test]
fn the_page_of_http_lists_every_problem_with_its_properties() {
    let rows = Page::read("docs/http-api.md").rows();
    let is_problem = |row: &&Vec<String>| row.len() == 5 && row[1].parse::<u16>().is_ok();
    let listed: Vec<String> = rows.iter().filter(is_problem).map(|row| row[..4].join(" | ")).collect();
    let table = TABLE.map(|kind| {
        let retryable = if kind.retryable { "yes" } else { "no" };
        format!("`{}` | {} | `{}` | {retryable}", kind.code, kind.status, kind.grpc_name())
    });
    assert_eq!(
        listed, table,
        "the problems of docs/http-api.md (left) differ from the table in src/api/problem.rs"
    );
}
