//! The reference pages are complete: they name each path of the OpenAPI document, each header of the AsyncAPI document,
//! each method of gRPC and each subcommand. A new one that no page describes fails here.

use serde_json::Value;

use super::page::file;
use super::server::program;

/// Asserts that a page names all of these words as code.
fn assert_names(page: &str, words: impl IntoIterator<Item = String>) {
    let text = file(page);
    let words: Vec<String> = words.into_iter().collect();
    assert!(words.len() > 2, "the scan found almost nothing for {page}: {words:?}");
    let is_named = |word: &String| {
        text.split('`').skip(1).step_by(2).any(|code| {
            let is_end = |c: char| c.is_whitespace() || matches!(c, '?' | '|');
            code == word.as_str() || code.split(is_end).any(|part| part == word.as_str())
        })
    };
    let missing: Vec<_> = words.iter().filter(|word| !is_named(word)).collect();
    assert!(missing.is_empty(), "{page} does not describe {missing:?}");
}

fn json(path: &str) -> Value {
    serde_json::from_str(&file(path)).expect("JSON")
}

/// The subcommands that `--help` of a command lists.
fn subcommands(arguments: &[&str]) -> Vec<String> {
    let arguments = [arguments, &["--help"]].concat();
    let help = program(&std::env::temp_dir(), &arguments).output().expect("the program starts").stdout;
    let help = String::from_utf8(help).expect("text");
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

#[test]
fn the_page_of_http_names_every_path() {
    let openapi = json("openapi.json");
    let paths = openapi["paths"].as_object().expect("paths").keys().cloned();
    // The files of the page `/docs` are not for callers.
    assert_names("docs/http-api.md", paths.filter(|path| path != "/docs/{file}"));
}

#[test]
fn the_page_of_events_names_every_header() {
    let asyncapi = json("asyncapi.json");
    let schemas = ["EventHeaders", "AckHeaders", "DeadLetterHeaders"];
    let headers = schemas.map(|name| &asyncapi["components"]["schemas"][name]["properties"]);
    let all = headers.iter().flat_map(|headers| headers.as_object().expect("headers").keys().cloned());
    assert_names("docs/events.md", all);
}

#[test]
fn the_page_of_grpc_names_every_method() {
    let proto = file("api/orders_api/orders.proto");
    let methods = proto.lines().filter_map(|line| line.trim_start().strip_prefix("rpc "));
    assert_names("docs/grpc-api.md", methods.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
}

#[test]
fn the_page_of_the_command_line_names_every_subcommand() {
    assert_names("docs/cli.md", subcommands(&[]).into_iter().chain(subcommands(&["orders"])));
}
