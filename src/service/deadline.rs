//! Wait policies and deadlines: how long a caller waits for the worker, by its request and the service's settings, and
//! until when it is answered. The answer is in time also where the store does not respond. A caller never waits longer
//! than the service's limit; one that does not wait still gives the store at least a second, so that it gets the
//! outcome of its command. Deadlines are times of the process's monotonic clock, which a change of the system's time
//! does not move.

use std::time::{Duration, Instant};

use super::wiring::Service;

/// How long a caller waits for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitPolicy {
    /// As long as the service is set to.
    #[default]
    Usual,
    /// No longer than this, nor than the service's limit; also where the service is set not to wait.
    AtMost(Duration),
    /// As long as the service is set to, and no longer than this.
    Within(Duration),
    /// Not at all: an order that is durable is good enough.
    None,
}

/// How long a commit, or a read of the store, may take at least before its caller is answered: a caller who does not
/// wait for the worker (`wait=0`, or a short limit of the service) still gets the store's answer.
pub(super) const SHORTEST_LIMIT: Duration = Duration::from_secs(1);

/// The time that is kept for a last read of the store where the caller is shown the order.
const LAST_READ: Duration = Duration::from_millis(200);

/// Until when a caller is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Until when the caller waits for the ACK; `None`: not at all.
    pub(super) ack: Option<Instant>,
    /// When the caller is answered at the latest, also where the store does not answer.
    pub(super) answer: Instant,
    /// Whether the caller asked not to wait.
    pub(super) is_async: bool,
}

impl Deadline {
    /// When the caller is answered at the latest.
    #[must_use]
    pub fn answer(&self) -> Instant {
        self.answer
    }

    /// Whether the caller does not wait for the worker any more.
    #[must_use]
    pub fn is_wait_over(&self) -> bool {
        self.ack.is_none_or(|until| until <= Instant::now())
    }

    /// The same for a caller who is shown the order: the wait for the worker ends early enough for a last read of the
    /// store, so that this read does not make the answer late.
    #[must_use]
    pub fn with_last_read(self) -> Deadline {
        // That is never before now: the answer has SHORTEST_LIMIT at least.
        let read_at = self.answer - LAST_READ;
        Deadline { ack: self.ack.map(|until| until.min(read_at)), ..self }
    }
}

impl Service {
    /// When a caller with that wait policy is answered at the latest, counted from now.
    #[must_use]
    pub fn deadline(&self, wait_policy: WaitPolicy) -> Deadline {
        let longest = self.ack_wait_timeout;
        let (waits, limit) = match wait_policy {
            WaitPolicy::Usual => (self.ack_wait, longest),
            WaitPolicy::AtMost(limit) => (true, limit.min(longest)),
            WaitPolicy::Within(limit) => (self.ack_wait, limit.min(longest)),
            WaitPolicy::None => (false, longest),
        };
        let now = Instant::now();
        Deadline {
            ack: waits.then(|| now + limit),
            answer: now + limit.max(SHORTEST_LIMIT),
            is_async: wait_policy == WaitPolicy::None,
        }
    }

    /// How long a caller waits at most, also where it asks for more.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.ack_wait_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_read_has_its_time_within_the_wait_and_takes_little_of_it() {
        let now = Instant::now();
        for (wait, least) in [(1_000, 800), (2_000, 1_800), (30_000, 29_800), (900, 800), (400, 400), (0, 0)]
        {
            let [wait, least] = [wait, least].map(Duration::from_millis);
            let deadline =
                Deadline { ack: Some(now + wait), answer: now + wait.max(SHORTEST_LIMIT), is_async: false };
            let shown = deadline.with_last_read();
            let ack = shown.ack.unwrap();
            assert_eq!(shown.answer, deadline.answer);
            assert!(ack < shown.answer && ack >= now + least && ack <= now + wait, "{wait:?}");
        }
        let async_one = Deadline { ack: None, answer: now + SHORTEST_LIMIT, is_async: true };
        assert_eq!(async_one.with_last_read(), async_one);
    }
}
