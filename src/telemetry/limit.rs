//! The limit for log lines that can occur with every request or record: the first is written at once, then at most one
//! per second, with the count of lines that were left out. The thread that writes the log reports the last count when
//! such lines cease, so that the counts add up.
//!
//! Two atomics per line; a line that is left out is neither formatted nor allocated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// The limits that have left out a line: those that [`report`] looks at.
static USED: Mutex<Vec<&'static LogLimit>> = Mutex::new(Vec::new());

/// A limit for one kind of line. It lives as long as the process.
#[derive(Debug)]
pub struct LogLimit {
    /// The kind of line, for the report of lines that were left out.
    kind: &'static str,
    /// When the next line may be written, in microseconds of [`clock`].
    next: AtomicU64,
    /// How many lines were left out since the last one that was written.
    left_out: AtomicU64,
    /// Whether it is one of [`USED`]; 1 where it is.
    used: AtomicU64,
}

impl LogLimit {
    /// A limit that lets the first line through.
    #[must_use]
    pub const fn new(kind: &'static str) -> LogLimit {
        let (next, left_out, used) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        LogLimit { kind, next, left_out, used }
    }

    /// Whether a line may be written now. Answers the lines that were left out before it, where there are some.
    pub fn pass(&'static self) -> Option<LeftOut> {
        let passed = self.pass_at(clock());
        if passed.is_none() && self.used.swap(1, Ordering::Relaxed) == 0 {
            USED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
        passed
    }

    fn pass_at(&self, now: u64) -> Option<LeftOut> {
        let next = self.next.load(Ordering::Relaxed);
        let is_free = next <= now
            && self.next.compare_exchange(next, now + MICROS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_free {
            return Some(LeftOut(self.left_out.swap(0, Ordering::Relaxed)));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// How many lines are left out and not reported yet, where there was no further line to carry the count.
    fn rest_at(&self, now: u64) -> Option<u64> {
        let is_quiet = self.left_out.load(Ordering::Relaxed) > 0 && self.next.load(Ordering::Relaxed) <= now;
        is_quiet.then(|| self.pass_at(now)).flatten().and_then(LeftOut::count)
    }
}

/// The lines that were left out before the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(u64);

impl LeftOut {
    /// Their number; `None` where there are none, so that the line has no field for it.
    #[must_use]
    pub fn count(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

const MICROS: u64 = PERIOD.as_micros() as u64;

/// Microseconds since the first call, and one: 0 is before all of them.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX / 2) + 1
}

/// Reports the lines that were left out and not followed by a further line of their kind.
pub(super) fn report() {
    let used: Vec<&'static LogLimit> = USED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let now = clock();
    for limit in used {
        if let Some(count) = limit.rest_at(now) {
            tracing::warn!(kind = limit.kind, suppressed = count, "further lines of this kind were left out");
        }
    }
}

/// Logs a line that can occur with every request or record: `limited!(warn, "kind"; %error, "text")`. The first is
/// written at once, then at most one per second, with the field `suppressed` for the lines that were left out. The
/// fields are not evaluated for a line that is left out.
macro_rules! limited {
    ($level:ident, $kind:literal; $($line:tt)+) => {{
        static LIMIT: $crate::telemetry::LogLimit = $crate::telemetry::LogLimit::new($kind);
        if let Some(left_out) = LIMIT.pass() {
            ::tracing::$level!(suppressed = left_out.count(), $($line)+);
        }
    }};
}

pub(crate) use limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_and_then_one_per_second_with_the_count() {
        let limit = LogLimit::new("test");
        assert_eq!(limit.pass_at(5), Some(LeftOut(0)));
        for now in [5, 6, MICROS, MICROS + 4] {
            assert_eq!(limit.pass_at(now), None);
        }
        assert_eq!(limit.pass_at(MICROS + 5), Some(LeftOut(4)));
        assert_eq!(limit.pass_at(2 * MICROS + 5), Some(LeftOut(0)));
        assert_eq!((LeftOut(0).count(), LeftOut(4).count()), (None, Some(4)));
    }

    #[test]
    fn the_last_lines_left_out_are_reported_once_when_the_lines_cease() {
        let limit = LogLimit::new("test");
        assert!(limit.pass_at(1).is_some() && limit.pass_at(2).is_none() && limit.pass_at(3).is_none());
        assert_eq!(limit.rest_at(4), None, "a line may still come");
        assert_eq!(limit.rest_at(MICROS + 1), Some(2));
        assert_eq!(limit.rest_at(3 * MICROS), None);
    }

    #[test]
    fn threads_that_log_at_once_lose_no_count() {
        static LIMIT: LogLimit = LogLimit::new("test");
        let passed: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000).filter_map(|_| LIMIT.pass()).map(|left| left.0).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let left_out = LIMIT.left_out.load(Ordering::Relaxed);
        assert_eq!(passed.len() as u64 + passed.iter().sum::<u64>() + left_out, 4000);
    }
}
