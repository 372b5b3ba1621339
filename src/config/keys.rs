//! What a key of the settings is, and the macro that makes the table of keys and the struct of settings from
//! the same rows, so that neither can hold what the other lacks.
//!
//! A key has one name, in lower case; how a layer spells it is known to the functions here alone.

use super::KEYS;

/// One setting: its name in each layer, and what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in a file of settings.
    pub name: &'static str,
    pub(super) doc: &'static str,
    pub(super) shape: Shape,
    pub(super) placeholder: &'static str,
}

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// An array of texts.
    List,
    /// A text that is shown nowhere.
    Secret,
}

impl Key {
    /// What it is for, in one line.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.doc.trim_start()
    }

    /// Whether its value must never be shown. Such a key can also be given as a file, see [`Key::file_name`].
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.shape == Shape::Secret
    }

    /// A secret's second name, under which a file that holds it is given.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        self.is_secret().then(|| format!("{}_file", self.name))
    }
}

/// The environment variable of a name.
pub(super) fn variable(name: &str) -> String {
    name.to_ascii_uppercase()
}

/// The flag of a name.
pub(super) fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Every name that a file of settings may hold.
pub(super) fn names() -> impl Iterator<Item = String> {
    KEYS.iter().flat_map(|key| [Some(key.name.to_owned()), key.file_name()]).flatten()
}

/// The known name that a wrong one was probably meant to be.
pub(super) fn nearest(wrong: &str) -> String {
    let wrong = wrong.to_ascii_lowercase().replace('-', "_");
    names().min_by_key(|name| distance(&wrong, name)).unwrap_or_default()
}

/// How many letters must be added, removed, changed or swapped with the next to make one text the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    strsim::osa_distance(a, b)
}

/// Makes `Settings`, its reader and the table `KEYS` of rows `/// help` + `name: Type,`.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty,)+) => {
        /// The settings, typed and checked. Its fields are the keys of `orderstream.default.toml`, which tells
        /// more about each.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $name: $type,)+
            /// The files that secrets were read from, by the key of each.
            pub secret_files: BTreeMap<&'static str, PathBuf>,
        }

        /// Every setting, in the order of the default file.
        pub const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            doc: concat!($($help),+),
            shape: <$type as value::Value>::SHAPE,
            placeholder: <$type as value::Value>::PLACEHOLDER,
        }),+];

        impl Settings {
            fn read(from: &mut load::Layers) -> Settings {
                Settings {
                    $($name: from.value(stringify!($name)),)+
                    secret_files: from.secret_files(),
                }
            }
        }
    };
}

pub(super) use settings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        assert_eq!(nearest("ack_wait_timeot"), "ack_wait_timeout");
        assert_eq!(nearest("API-PORT"), "api_port");
        assert_eq!(nearest("kafka_broker"), "kafka_brokers");
        assert_eq!(nearest("postgres_dns_file"), "postgres_dsn_file");
    }

    #[test]
    fn the_distance_of_two_texts_counts_the_letters_between_them() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("histroy", "history"), 1);
    }

    #[test]
    fn each_layer_spells_a_key_its_own_way() {
        assert_eq!(variable("ack_wait_timeout"), "ACK_WAIT_TIMEOUT");
        assert_eq!(flag("ack_wait_timeout"), "--ack-wait-timeout");
        let secrets: Vec<_> = KEYS.iter().filter_map(Key::file_name).collect();
        assert_eq!(
            secrets,
            [
                "postgres_dsn_file",
                "redis_addr_file",
                "kafka_sasl_password_file",
                "kafka_client_key_password_file"
            ]
        );
    }

    #[test]
    fn the_help_of_a_key_is_one_line_that_ends_in_a_full_stop() {
        for key in KEYS {
            assert!(key.help().ends_with('.') && !key.help().contains('\n'), "{}", key.name);
        }
    }
}
