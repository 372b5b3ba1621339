//! The pauses between two sessions with Redis. A session that begins makes the copies of all processes void, so one
//! that does not last is followed by ever longer pauses.

use std::time::Duration;

use crate::backoff::jittered;

/// The pause between two attempts to begin a session, counted from the first one's beginning; each next one is
/// twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause; also how long an attempt waits. A Redis that hangs has the request in its queue then, and
/// drops the generation at the moment when it goes on.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session that lived for so long is followed by the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// The longest pause after a beginning that made the copies of all processes void and did not last.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How long to pause before the next session begins.
pub(super) struct Pauses {
    /// After an attempt that changed nothing.
    retry: Duration,
    /// After one that made the copies of all processes void.
    rest: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { retry: FIRST_PAUSE, rest: FIRST_PAUSE }
    }
}

impl Pauses {
    /// The time from the beginning of an attempt, or a session, that took so long, to the next one.
    pub(super) fn after(&mut self, lived: Duration, is_void: bool) -> Duration {
        if lived >= STEADY {
            *self = Pauses::default();
            return lived;
        }
        if is_void {
            self.retry = FIRST_PAUSE;
            self.rest = LONGEST_REST.min(self.rest * 2);
            // The pause begins with the end: a session that lives a little shorter than a pause must not cost nothing.
            return if self.rest <= LONGEST_PAUSE {
                jittered(self.rest)
            } else {
                lived + jittered(self.rest)
            };
        }
        self.retry = if lived < LONGEST_PAUSE { LONGEST_PAUSE.min(self.retry * 2) } else { FIRST_PAUSE };
        jittered(self.retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sessions_are_followed_by_ever_longer_pauses_until_one_lived_long() {
        let (mut pauses, second) = (Pauses::default(), Duration::from_secs(1));
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let pause = pauses.after(second, true);
            assert!(pause + second >= longest / 2, "{pause:?} after {longest:?}");
            longest = longest.max(pause);
        }
        assert!(longest >= LONGEST_REST / 2 && longest <= LONGEST_REST + second, "{longest:?}");
        // While Redis is away, it is looked for as often as ever.
        for _ in 0..12 {
            assert!(pauses.after(Duration::ZERO, false) <= LONGEST_PAUSE);
        }
        assert!(pauses.after(second, true) >= LONGEST_REST / 2);
        assert_eq!(pauses.after(STEADY, true), STEADY);
        assert!(pauses.after(Duration::ZERO, true) <= LONGEST_PAUSE);
    }
}
