//! A caller's deadline, from the header `grpc-timeout`. The wait for the worker must end a little before it, so that
//! the caller receives the outcome of its order and not only `DEADLINE_EXCEEDED`: a tenth of the time left is reserved
//! for the response, at least 100 ms and at most 1 s. A deadline only shortens the service's own wait. Without the
//! header, or with a timeout beyond the clock's range, that wait applies unchanged.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use tonic::Extensions;

use crate::order::Invalid;
use crate::service::WaitPolicy;

/// The bounds of the time that is reserved for the response: a tenth of the time left. The lower bound is twice the
/// precision of a wait's end.
const MARGIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The time when the caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// The deadline of a call, counted from now.
    ///
    /// # Errors
    /// [`Invalid`] where the header is not in gRPC's format.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Deadline>, Invalid> {
        let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
        let limit = value.to_str().ok().and_then(duration).ok_or_else(|| {
            Invalid::new("grpc-timeout", "send 1 to 8 digits and a unit of H, M, S, m, u or n")
        })?;
        // A timeout beyond the clock's range counts as no deadline.
        Ok(Instant::now().checked_add(limit).map(Deadline))
    }

    /// How long the call with these extensions waits for the worker.
    pub(super) fn wait_policy(extensions: &Extensions) -> WaitPolicy {
        let Some(Deadline(at)) = extensions.get::<Deadline>() else { return WaitPolicy::Usual };
        let left = at.saturating_duration_since(Instant::now());
        match left.checked_sub((left / 10).clamp(MARGIN.0, MARGIN.1)) {
            Some(limit) => WaitPolicy::Within(limit),
            None => WaitPolicy::None,
        }
    }
}

/// A duration in gRPC's format: at most eight digits, and a unit.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, millis) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3_000),
            ("4m", 4),
            ("5000u", 5),
            ("6000000n", 6),
            ("0m", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "1", "S", "1s", "-1S", "+1S", "1.5S", "123456789S", " 1S", "1S ", "1é", "é"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_wait_ends_before_the_deadline() {
        let mut extensions = Extensions::new();
        assert_eq!(Deadline::wait_policy(&extensions), WaitPolicy::Usual);
        extensions.insert(Deadline(Instant::now() + Duration::from_secs(10)));
        let WaitPolicy::Within(limit) = Deadline::wait_policy(&extensions) else { panic!("no limit") };
        assert!(limit <= Duration::from_secs(9) && limit > Duration::from_secs(5), "{limit:?}");
        for soon in [Duration::ZERO, MARGIN.0 / 2] {
            extensions.insert(Deadline(Instant::now() + soon));
            assert_eq!(Deadline::wait_policy(&extensions), WaitPolicy::None);
        }
    }
}
