//! The comparisons of blocks of the kind `json`. `golden: NAME` is a message in `tests/golden`, byte for byte;
//! `request: STATUS` is sent to `POST /orders` and must be answered with that status; `answer` is the answer to the
//! last request of the page.

use std::io::Write;
use std::process::{Command, Stdio};

use super::page::file;

/// Whether a text is that golden message.
///
/// # Errors
/// The golden message, if they differ.
pub(super) fn is_golden(name: &str, text: &str) -> Result<(), String> {
    let golden = file(&format!("tests/golden/{name}.json"));
    let is_equal = golden.trim_end() == text.trim_end();
    is_equal.then_some(()).ok_or_else(|| format!("tests/golden/{name}.json is {golden}"))
}

/// Sends a body to `POST /orders`, and returns the body of the answer.
///
/// # Errors
/// The answer, if it has another status.
pub(super) fn post(address: &str, body: &str, status: &str) -> Result<String, String> {
    let url = format!("http://{address}/orders");
    let arguments =
        ["--silent", "--max-time", "60", "--data-binary", "@-", "--write-out", "\n%{http_code}", &url];
    let mut curl = Command::new("curl");
    let mut child =
        curl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl is installed");
    child.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("curl reads its input");
    let output = child.wait_with_output().expect("the end of curl").stdout;
    let output = String::from_utf8(output).expect("text");
    let (answer, code) = output.rsplit_once('\n').expect("a status");
    if code == status { Ok(answer.to_owned()) } else { Err(format!("{code} instead of {status}: {answer}")) }
}
