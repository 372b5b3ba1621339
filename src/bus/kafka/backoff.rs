//! Pauses before something is tried again: each is twice as long as the one before, up to a limit, and each is
//! cut by chance, so that processes that lost the same broker do not come back to it together.

use std::time::Duration;

use uuid::Uuid;

/// The first pause, before it is cut.
const FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// The next pause.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff(FIRST)
    }

    /// A pause between half and the whole of its length.
    pub(super) fn next(&mut self) -> Duration {
        let (pause, half) = (self.0, self.0 / 2);
        self.0 = (pause * 2).min(LONGEST);
        half + half.mul_f64(f64::from(random(1000)) / 1000.0)
    }

    /// Something worked: the next pause is the first again.
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }
}

/// A number by chance, below that one, which must not be 0.
pub(super) fn random(below: u32) -> u32 {
    // The last 32 bits of a UUIDv7 are random.
    Uuid::now_v7().as_u128() as u32 % below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::new();
        let mut whole = FIRST;
        for _ in 0..10 {
            let pause = backoff.next();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn chance_reaches_every_number_and_none_beyond() {
        let mut seen = [false; 4];
        while seen != [true; 4] {
            seen[random(4) as usize] = true;
        }
    }
}
