//! The display of settings: their warnings as comments, then TOML that can be loaded again, each line with the source
//! of its value; and a key with its value for messages. Every value that is shown goes through here. A secret that is
//! set is always shown as `"***"`.

use std::fmt;

use super::keys::{Key, Shape};
use super::loaded::{Loaded, Origin};
use super::settings::KEYS;
use super::value::{items, switch};

/// The text that replaces a secret.
pub(super) const MASK: &str = "***";

/// The longest line that the comments of all lines are aligned behind.
const WIDEST: usize = 48;

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = KEYS
            .iter()
            .filter_map(|key| {
                self.origin.get(key.name).map(|origin| (line(key, &origin.text), &origin.source))
            })
            .collect();
        let lengths = lines.iter().map(|(line, _)| line.chars().count());
        let width = lengths.filter(|length| *length <= WIDEST).max().unwrap_or(0);
        // A line break in a warning would end its comment.
        let plain = |warning: &String| warning.replace(char::is_control, " ");
        self.warnings.iter().map(plain).try_for_each(|warning| writeln!(f, "# warning: {warning}"))?;
        lines.iter().try_for_each(|(line, source)| writeln!(f, "{line:width$}   # {source}"))
    }
}

/// A key and its value, commented out where it is unset. A switch is shown as on or off.
fn line(key: &Key, text: &str) -> String {
    let value = match key.shape {
        Shape::Switch => {
            switch(text).map_or_else(|| quoted(text), |on| quoted(if on { "on" } else { "off" }))
        }
        Shape::Number => text.parse().map_or_else(|_| quoted(text), |number: u64| number.to_string()),
        Shape::List => format!("[{}]", items(text).map(quoted).collect::<Vec<_>>().join(", ")),
        Shape::Secret if !text.is_empty() => quoted(MASK),
        Shape::Text | Shape::Secret => quoted(text),
    };
    let unset = matches!(key.shape, Shape::List | Shape::Secret) && items(text).next().is_none();
    format!("{}{} = {value}", if unset { "# " } else { "" }, key.name)
}

/// A key with its value and source, for the beginning of a message.
pub(super) fn shown(name: &str, origin: &Origin) -> String {
    let is_secret = KEYS.iter().any(|key| key.name == name && key.is_secret());
    let text = if is_secret { MASK } else { &origin.text };
    format!("{name} = {} ({})", quoted(text), origin.source)
}

/// A TOML string. JSON's escapes are all legal in TOML; DEL must be escaped only in TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\x7f', "\\u007f")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Flags, Settings, load};
    use super::*;

    fn shown(env: &[(&str, &str)]) -> String {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        load::load(&Flags::default(), env, None).unwrap().to_string()
    }

    #[test]
    fn the_display_is_toml_with_the_source_of_each_value() {
        let shown =
            shown(&[("KAFKA_BROKERS", "a:1,b:2"), ("API_PORT", "08081"), ("WORKER_GROUP", "a\"\n\x7fb")]);
        let table: toml::Table = shown.parse().unwrap();
        assert_eq!(table["kafka_brokers"].as_array().unwrap().len(), 2);
        assert_eq!(table["api_port"].as_integer(), Some(8081));
        assert_eq!(table["worker_group"].as_str(), Some("a\"\n\x7fb"));
        assert_eq!(table["ack_wait"].as_str(), Some("on"));
        assert!(shown.contains("# from API_PORT\n") && shown.contains("# default\n"), "{shown}");
        assert_eq!(shown.lines().count(), KEYS.len());
    }

    #[test]
    fn a_switch_is_shown_as_on_or_off() {
        for (text, word) in [("1", "on"), ("TRUE", "on"), ("Off", "off"), ("0", "off")] {
            assert!(shown(&[("HISTORY", text)]).contains(&format!("history = \"{word}\"")), "{text}");
        }
    }

    #[test]
    fn what_is_unset_is_commented_out() {
        let shown = shown(&[]);
        for line in ["# postgres_dsn = \"\" ", "# redis_addr = \"\" ", "# kafka_brokers = [] "] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn what_is_shown_can_be_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orderstream.toml");
        std::fs::write(&path, shown(&[("HTTP_BODY_LIMIT", "512KiB"), ("KAFKA_BROKERS", "a:1, b:2")]))
            .unwrap();
        let again = load::load(&Flags::default(), std::iter::empty(), Some(Path::new(&path))).unwrap();
        let Settings { http_body_limit, kafka_brokers, .. } = again.settings;
        assert_eq!((http_body_limit, kafka_brokers.len()), (512 * 1024, 2));
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let env = [("POSTGRES_DSN", "postgres://u:hunter2@db/x"), ("REDIS_ADDR", "redis://:hunter2@cache")];
        let env = env.map(|(name, text)| (name.to_owned(), text.to_owned())).into_iter();
        let loaded = load::load(&Flags::default(), env, None).unwrap();
        let display = loaded.to_string();
        assert!(display.contains("postgres_dsn = \"***\"") && display.contains("redis_addr = \"***\""));
        for text in [display, format!("{loaded:?}"), format!("{:?}", loaded.settings)] {
            assert!(!text.contains("hunter2") && !text.contains("postgres://"), "{text}");
        }
    }
}
