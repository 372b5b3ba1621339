//! Pauses before a retry: each is twice as long as the one before, up to a limit, and randomly shortened (jitter), so
//! that processes that lost the same server do not reconnect at the same time. A leaf: any room may use it, and it
//! imports none.

use std::time::Duration;

use uuid::Uuid;

/// The pauses of an operation that is retried until it works.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses that begin at `first` and double up to `longest`, before they are shortened.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, next: first }
    }

    /// The next pause: between half and the whole of its length.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        jittered(pause)
    }

    /// The operation worked: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A pause that has been doubled so many times, and is not longer than `longest`.
#[must_use]
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    // More doublings than this reach every limit there is.
    first.saturating_mul(1 << times.min(20)).min(longest)
}

/// Half of a pause to the whole of it.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    half + half.mul_f64(f64::from(random(1000)) / 1000.0)
}

/// A pause, up to a quarter shorter or longer: for periodic work that processes must not do all at once.
#[must_use]
pub fn spread(pause: Duration) -> Duration {
    pause * 3 / 4 + (pause / 2).mul_f64(f64::from(random(1000)) / 1000.0)
}

/// A random number below `below`, which must not be 0.
#[must_use]
pub fn random(below: u32) -> u32 {
    // The last 32 bits of a UUIDv7 are random.
    Uuid::now_v7().as_u128() as u32 % below
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_grow_to_a_limit_and_begin_again() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut whole = FIRST;
        for _ in 0..10 {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn a_pause_that_is_doubled_often_has_its_limit() {
        let seconds = |times| doubled(Duration::from_secs(1), times, Duration::from_secs(30)).as_secs();
        assert_eq!([0, 1, 4, 5, 31, u32::MAX].map(seconds), [1, 2, 16, 30, 30, 30]);
    }

    #[test]
    fn a_pause_is_spread_by_a_quarter_at_most() {
        for _ in 0..100 {
            let pause = spread(LONGEST);
            assert!(pause >= LONGEST * 3 / 4 && pause <= LONGEST * 5 / 4, "{pause:?}");
        }
    }

    #[test]
    fn a_random_number_reaches_each_value_below_its_limit() {
        let mut seen = [false; 4];
        while seen != [true; 4] {
            seen[random(4) as usize] = true;
        }
    }
}
