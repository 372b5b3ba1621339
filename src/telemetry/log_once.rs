//! One log line for an outage, and one for its end, however often it is observed. [`LogOnce`] remembers whether the
//! line was written; the caller writes it, in its own words. Of several threads that observe the same change, exactly
//! one gets `true`, because the state is one atomic that each of them swaps. Nothing here locks or blocks.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the log last said that something works, or that it does not. At first it works.
#[derive(Debug, Default)]
pub struct LogOnce(AtomicBool);

impl LogOnce {
    /// Records a failure. `true` where it must be logged: the first one since it last worked.
    pub fn failed(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// Records a success. `true` where a failure was logged before.
    pub fn worked(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_once_and_so_is_its_end() {
        let log = LogOnce::default();
        assert!(!log.worked());
        assert_eq!((log.failed(), log.failed()), (true, false));
        assert_eq!((log.worked(), log.worked()), (true, false));
        assert!(log.failed());
    }
}
