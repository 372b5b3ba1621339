//! The result of loading: the settings with the origin of each value, or every mistake. A secret is never in an origin
//! or in a mistake; `layers` masks it. The settings are checked, so the rooms that use them do not check them again. An
//! origin is the layer that won, down to the name of its file, variable or flag. A warning must never keep a process
//! from starting.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::settings::Settings;

/// Settings with the origin of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, checked.
    pub settings: Settings,
    /// Where each key's value came from, by key.
    pub origin: BTreeMap<&'static str, Origin>,
    /// Combinations that are legal but probably not intended; a line each, for the log at start.
    pub warnings: Vec<String>,
}

/// The source of a value, and its text there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The text of the value; `***` for a secret, or empty where the secret is unset.
    pub text: String,
    /// The layer that won.
    pub source: Source,
}

/// A source of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The compiled-in defaults.
    Default,
    /// That file of settings.
    File(PathBuf),
    /// That environment variable.
    Env(String),
    /// That file, which holds only the secret.
    SecretFile(PathBuf),
    /// That flag.
    Flag(String),
    /// The compiled-in defaults, because that variable or flag is empty.
    Emptied(String),
}

/// Every mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the settings cannot be used:\n  {}", problems.join("\n  "))]
pub struct ConfigError {
    pub(super) problems: Vec<String>,
}

impl ConfigError {
    /// One line for each mistake: the key, the value unless it is secret, the source and the fix.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            // A path may hold a line break, which would end a comment or a message.
            Source::File(path) => write!(f, "from {}", path.to_string_lossy().escape_debug()),
            Source::SecretFile(path) => {
                write!(f, "from the content of {}", path.to_string_lossy().escape_debug())
            }
            Source::Env(name) | Source::Flag(name) => write!(f, "from {name}"),
            Source::Emptied(name) => write!(f, "default, because {name} is empty"),
        }
    }
}
