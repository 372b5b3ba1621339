//! What blocks of the kind `json` are compared with. `golden: NAME` is a message in `tests/golden`, byte for byte;
//! `request: STATUS` is sent to `POST /orders` and answered with that status; `answer` is what the last request of the
//! page was answered.

use std::io::Write;
use std::process::{Command, Stdio};

use super::page::file;

/// Whether a text is that golden message.
///
/// # Errors
/// Both, where they differ.
pub(super) fn is_golden(name: &str, text: &str) -> Result<(), String> {
    let golden = file(&format!("tests/golden/{name}.json"));
    let is_equal = golden.trim_end() == text.trim_end();
    is_equal.then_some(()).ok_or_else(|| format!("tests/golden/{name}.json is {golden}"))
}

/// Sends a body to `POST /orders`, and answers the body that comes back.
///
/// # Errors
/// The answer, where its status is another one.
pub(super) fn post(address: &str, body: &str, status: &str) -> Result<String, String> {
    let url = format!("http://{address}/orders");
    let arguments =
        ["--silent", "--max-time", "60", "--data-binary", "@-", "--write-out", "\n%{http_code}", &url];
    let mut curl = Command::new("curl");
    let mut child =
        curl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl is installed");
    child.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("its end").stdout;
    let output = String::from_utf8(output).expect("text");
    let (answer, code) = output.rsplit_once('\n').expect("a status");
    if code == status { Ok(answer.to_owned()) } else { Err(format!("{code} instead of {status}: {answer}")) }
}
