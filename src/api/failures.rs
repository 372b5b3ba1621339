//! The log lines about failures of the service. Under overload every caller gets a failure, and the log gets one line
//! per second and code, for HTTP and gRPC together; the next line has the number of those that were left out. A line
//! that is left out is not even formatted. A problem with a status below 500, or a code outside of the table, must
//! never get a line.

use super::problem::TABLE;
use crate::telemetry::LogLimit;

/// A limit for each code of the table.
static LIMITS: [LogLimit; TABLE.len()] = {
    let mut limits = [const { LogLimit::new("") }; TABLE.len()];
    let mut index = 0;
    while index < TABLE.len() {
        limits[index] = LogLimit::new(TABLE[index].code);
        index += 1;
    }
    limits
};

/// Calls `log` for a failure of the service, unless the code's limit on lines is reached, with the number of lines that
/// were left out before.
pub(super) fn log(code: &str, log: impl FnOnce(Option<u64>)) {
    let row = TABLE.iter().position(|kind| kind.code == code && kind.status >= 500);
    if let Some(left_out) = row.and_then(|row| LIMITS[row].pass()) {
        log(left_out.count());
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::{INVALID, OUTCOME_UNKNOWN};
    use super::*;

    #[test]
    fn a_failure_is_logged_once_a_second_and_a_rejection_never() {
        let mut lines = 0;
        for code in [OUTCOME_UNKNOWN.code, OUTCOME_UNKNOWN.code, INVALID.code, "unknown"] {
            log(code, |_| lines += 1);
        }
        assert_eq!(lines, 1);
    }
}
