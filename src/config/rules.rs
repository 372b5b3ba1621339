//! Collects the broken rules between settings, each with its keys and the fix. `check` and `check_kafka` hold the
//! rules. A broken rule does not end the check, so that one start reports all of them. A fix must never hold a value:
//! the loader adds the values by the keys, and masks those that are secret.

/// A broken rule.
pub(super) struct Problem {
    /// The keys of the rule.
    pub(super) keys: &'static [&'static str],
    /// The mistake and the fix.
    pub(super) fix: String,
}

/// The rules that are broken so far.
#[derive(Default)]
pub(super) struct Rules(Vec<Problem>);

impl Rules {
    /// Checks a rule between these keys. `fix` names the mistake and the fix where the rule does not hold.
    pub(super) fn holds(&mut self, holds: bool, keys: &'static [&'static str], fix: &str) {
        if !holds {
            self.0.push(Problem { keys, fix: fix.to_owned() });
        }
    }

    /// The broken rules.
    pub(super) fn broken(self) -> Vec<Problem> {
        self.0
    }
}

/// Whether Kafka accepts a name for a topic, or for a static member of a group.
pub(super) fn is_topic(name: &str, longest: usize) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=longest).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
}
