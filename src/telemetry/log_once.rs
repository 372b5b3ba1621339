//! One line for an outage, however often it is met, and one for its end. Whether a line was written is remembered here;
//! the caller writes it, in its own words.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the log was told last: that something works, or that it does not. At first it works.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicBool);

impl LogOnce {
    /// It has failed. `true` where the log is to be told: the first time since it last worked.
    pub fn failed(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// It has worked. `true` where the log was told of a failure before.
    pub fn worked(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let log = LogOnce::default();
        assert!(!log.worked());
        assert_eq!((log.failed(), log.failed()), (true, false));
        assert_eq!((log.worked(), log.worked()), (true, false));
        assert!(log.failed());
    }
}
