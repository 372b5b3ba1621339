//! The settings, each with the source of its value. No other room reads the environment, a flag or a file of
//! settings.
//!
//! Four layers, the later wins: the compiled-in `orderstream.default.toml`, a file, the environment (`ORDERSTREAM_KEY`
//! before `KEY`), the command line. All mistakes are reported together, each with its key, its source and the fix.
//! A secret's text must never appear in a message, a display or a `Debug`.

mod check;
mod check_kafka;
mod display;
mod environment;
mod flags;
mod kafka;
mod keys;
mod layers;
mod load;
mod loaded;
mod logging;
mod names;
mod postgres;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use check::REQUEST_OVERHEAD;
pub use flags::Flags;
pub use kafka::{AckRead, Compression, KafkaSecurity, SaslMechanism};
pub use keys::Key;
pub use loaded::{ConfigError, Loaded, Origin, Source};
pub use logging::LogFormat;
pub use postgres::ReadFrom;
pub use settings::{KEYS, Settings};
pub use value::Percent;
