//! What loading the settings answers: the settings, with the place that each value came from; or all that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::settings::Settings;

/// Settings with the history of each.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, checked.
    pub settings: Settings,
    /// Where each key's value came from, by key.
    pub origin: BTreeMap<&'static str, Origin>,
    /// What is legal, and perhaps was not meant; a line each, for the log at start.
    pub warnings: Vec<String>,
}

/// Where a value came from, and what it said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The value as it was written; a secret's is `***`, or empty where it is unset.
    pub text: String,
    /// The layer that won.
    pub source: Source,
}

/// A place that settings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The compiled-in defaults.
    Default,
    /// That file of settings.
    File(PathBuf),
    /// That environment variable.
    Env(String),
    /// That file, which holds nothing but the secret.
    SecretFile(PathBuf),
    /// That flag.
    Flag(String),
    /// The compiled-in defaults, because that variable or flag is empty.
    Emptied(String),
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the settings cannot be used:\n  {}", problems.join("\n  "))]
pub struct ConfigError {
    pub(super) problems: Vec<String>,
}

impl ConfigError {
    /// One line for each mistake: the key, the value unless it is secret, the place and the fix.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            // Escaped, because a path may hold a line break and this stands in comments and messages.
            Source::File(path) => write!(f, "from {}", path.to_string_lossy().escape_debug()),
            Source::SecretFile(path) => {
                write!(f, "from the content of {}", path.to_string_lossy().escape_debug())
            }
            Source::Env(name) | Source::Flag(name) => write!(f, "from {name}"),
            Source::Emptied(name) => write!(f, "default, for {name} is empty"),
        }
    }
}
