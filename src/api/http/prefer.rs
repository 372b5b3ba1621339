//! Preferences (RFC 7240): how long a caller waits for the worker, and the content of the response. A preference that
//! is unknown or malformed is ignored, as the RFC requires; `Preference-Applied` lists the applied ones. Of one given
//! twice the first counts, and `wait` takes precedence over `respond-async`. The service's limit bounds every wait; the
//! wait that a response states is the one in force, in whole seconds, rounded up.

use std::time::{Duration, Instant};

use axum::response::Response;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::service::{Service, WaitPolicy};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The header that lists the applied preferences.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The preferences of a caller. Where one is given twice, the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Preferences {
    /// The most seconds to wait.
    wait: Option<u32>,
    /// Whether the caller wants no wait, or, with `wait`, no longer one.
    respond_async: bool,
    /// Whether the response includes the order; `None` without a preference.
    representation: Option<bool>,
}

impl Preferences {
    /// Reads the preferences of a request.
    pub(super) fn read(headers: &HeaderMap) -> Preferences {
        let mut preferences = Preferences::default();
        for value in headers.get_all(PREFER) {
            let stated = value.to_str().unwrap_or("").split(',');
            stated.for_each(|preference| preferences.add(preference));
        }
        preferences
    }

    fn add(&mut self, preference: &str) {
        // Parameters follow a semicolon; none of the known preferences has any.
        let stated = preference.split(';').next().unwrap_or("");
        let (name, value) = stated.split_once('=').unwrap_or((stated, ""));
        let value = value.trim_matches([' ', '\t', '"']);
        match name.trim_matches([' ', '\t']).to_ascii_lowercase().as_str() {
            "respond-async" => self.respond_async = true,
            "wait" if self.wait.is_none() => self.wait = value.parse().ok(),
            "return" if self.representation.is_none() => {
                self.representation = match value.to_ascii_lowercase().as_str() {
                    "representation" => Some(true),
                    "minimal" => Some(false),
                    _ => None,
                };
            }
            _ => {}
        }
    }

    /// How long the caller waits for the worker.
    pub(super) fn wait_policy(&self) -> WaitPolicy {
        match (self.wait, self.respond_async) {
            (Some(seconds), _) => WaitPolicy::AtMost(Duration::from_secs(seconds.into())),
            (None, true) => WaitPolicy::None,
            (None, false) => WaitPolicy::Usual,
        }
    }

    /// How long a reader waits.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.wait.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// The deadline of a read that begins now: the limit of reads, or the caller's wait if that ends earlier.
    pub(super) fn reads_until(&self, service: &Service) -> Instant {
        match self.wait {
            Some(_) => service.reads_until().min(service.deadline(self.wait_policy()).answer()),
            None => service.reads_until(),
        }
    }

    /// Whether the response includes the order.
    pub(super) fn wants_representation(&self) -> bool {
        self.representation == Some(true)
    }

    /// The applied preferences of a write, given whether the response includes the order and how long the service waits
    /// at most; `None` without a preference.
    pub(super) fn applied_to_write(&self, has_representation: bool, limit: Duration) -> Option<HeaderValue> {
        let representation = match self.representation {
            Some(true) => has_representation.then_some("return=representation"),
            Some(false) => Some("return=minimal"),
            None => None,
        };
        let respond_async = self.respond_async.then_some("respond-async");
        self.list([respond_async, representation], limit)
    }

    /// Adds the applied preferences to the response of a read, given how long the service waits at most.
    pub(super) fn confirm_read(&self, response: &mut Response, limit: Duration) {
        if let Some(applied) = self.applied_to_read(limit) {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
    }

    /// The applied preferences of a read.
    fn applied_to_read(&self, limit: Duration) -> Option<HeaderValue> {
        self.list([None, None], limit)
    }

    fn list(&self, others: [Option<&str>; 2], limit: Duration) -> Option<HeaderValue> {
        if *self == Preferences::default() {
            return None;
        }
        // The wait in force, rounded up to seconds: no response may be later than the stated wait.
        let most = limit.as_secs().saturating_add(u64::from(limit.subsec_nanos() > 0));
        let wait = self.wait.map(|seconds| format!("wait={}", most.min(seconds.into())));
        let applied: Vec<&str> = others.into_iter().chain([wait.as_deref()]).flatten().collect();
        (!applied.is_empty()).then(|| HeaderValue::try_from(applied.join(", ")).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Preferences {
        let header = |value: &&str| (PREFER, HeaderValue::from_str(value).unwrap());
        Preferences::read(&values.iter().map(header).collect())
    }

    #[test]
    fn preferences_are_read_in_every_spelling_and_the_first_counts() {
        let both = Preferences { wait: Some(5), respond_async: true, representation: Some(true) };
        for values in [
            &["respond-async, wait=5, return=representation"][..],
            &["Respond-Async", "WAIT=\"5\"", "return = Representation; x=1"],
            &["wait=5,wait=9,respond-async,return=representation,return=minimal"],
            &["handling=lenient, respond-async; a=b, unknown, wait = 5 , return=representation"],
        ] {
            assert_eq!(read(values), both, "{values:?}");
        }
        assert_eq!(both.wait_policy(), WaitPolicy::AtMost(Duration::from_secs(5)));
        let limit = Duration::from_secs(30);
        assert_eq!(
            both.applied_to_write(true, limit).unwrap(),
            "respond-async, return=representation, wait=5"
        );
        assert_eq!(both.applied_to_write(false, limit).unwrap(), "respond-async, wait=5");
        assert_eq!(both.applied_to_read(limit).unwrap(), "wait=5");
        for (millis, applied) in
            [(30_000, "wait=5"), (5_000, "wait=5"), (2_000, "wait=2"), (1_500, "wait=2"), (1, "wait=1")]
        {
            assert_eq!(both.applied_to_read(Duration::from_millis(millis)).unwrap(), applied);
        }
    }

    #[test]
    fn an_unknown_or_malformed_preference_is_ignored() {
        for value in
            ["", "wait", "wait=", "wait=-1", "wait=soon", "wait=99999999999", "return=all", ",,;=", "=5"]
        {
            assert_eq!(read(&[value]), Preferences::default(), "{value}");
            assert_eq!(read(&[value]).wait_policy(), WaitPolicy::Usual);
            assert_eq!(read(&[value]).applied_to_write(false, Duration::MAX), None);
        }
        assert_eq!(read(&["respond-async"]).wait_policy(), WaitPolicy::None);
        assert_eq!(read(&["respond-async"]).applied_to_write(false, Duration::MAX).unwrap(), "respond-async");
    }
}
