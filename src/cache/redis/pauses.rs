//! The pauses between two sessions with Redis. The beginning of a session makes the entries of all processes void, so
//! sessions that do not last are followed by longer and longer pauses: up to 30 seconds, until one has lasted a minute.
//! An attempt that made nothing void costs the others nothing, so its pause is at most 2 seconds. Pauses are shortened
//! randomly (see `backoff`). This file only computes; the session manager measures and sleeps.

use std::time::Duration;

use crate::backoff::jittered;

/// The pause between two attempts to begin a session, counted from the first one's beginning; each next one is
/// twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause; also the timeout of an attempt. A Redis that hangs has the request in its queue then, and deletes
/// the generation as soon as it continues.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session that lasted this long resets the pauses.
const STEADY: Duration = Duration::from_secs(60);

/// The longest pause after a session that made the entries of all processes void and did not last.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How long to pause before the next session begins.
pub(super) struct Pauses {
    /// The pause after an attempt that changed nothing.
    retry: Duration,
    /// The pause after an attempt that made the entries of all processes void.
    rest: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { retry: FIRST_PAUSE, rest: FIRST_PAUSE }
    }
}

impl Pauses {
    /// The time from the beginning of an attempt, or a session, to the next one. `lived` is how long it took.
    pub(super) fn after(&mut self, lived: Duration, is_void: bool) -> Duration {
        if lived >= STEADY {
            *self = Pauses::default();
            return lived;
        }
        if is_void {
            self.retry = FIRST_PAUSE;
            self.rest = LONGEST_REST.min(self.rest * 2);
            // Counted from the session's end: else a session that lasts almost as long as a pause would have no pause.
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
    fn short_sessions_are_followed_by_longer_and_longer_pauses_until_one_lasts() {
        let (mut pauses, second) = (Pauses::default(), Duration::from_secs(1));
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let pause = pauses.after(second, true);
            assert!(pause + second >= longest / 2, "{pause:?} after {longest:?}");
            longest = longest.max(pause);
        }
        assert!(longest >= LONGEST_REST / 2 && longest <= LONGEST_REST + second, "{longest:?}");
        // Attempts that do not reach Redis keep their short pauses.
        for _ in 0..12 {
            assert!(pauses.after(Duration::ZERO, false) <= LONGEST_PAUSE);
        }
        assert!(pauses.after(second, true) >= LONGEST_REST / 2);
        assert_eq!(pauses.after(STEADY, true), STEADY);
        assert!(pauses.after(Duration::ZERO, true) <= LONGEST_PAUSE);
    }
}
