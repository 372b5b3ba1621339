//! The rules between settings, as they are checked one by one: those that are broken are kept, each with its keys and
//! the fix.

/// A rule that is broken.
pub(super) struct Problem {
    /// The keys it is between.
    pub(super) keys: &'static [&'static str],
    /// What is wrong, and the way to mend it.
    pub(super) fix: String,
}

/// Rules that are being checked.
#[derive(Default)]
pub(super) struct Rules(Vec<Problem>);

impl Rules {
    /// Checks a rule between these keys; `fix` says what is wrong where it does not hold, and the way to mend it.
    pub(super) fn holds(&mut self, holds: bool, keys: &'static [&'static str], fix: &str) {
        if !holds {
            self.0.push(Problem { keys, fix: fix.to_owned() });
        }
    }

    /// Those that are broken.
    pub(super) fn broken(self) -> Vec<Problem> {
        self.0
    }
}

/// Whether Kafka takes it as a topic's name, or as the name of a static member.
pub(super) fn is_topic(name: &str, longest: usize) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=longest).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
}
