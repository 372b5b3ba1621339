//! A key of the settings, and the macro that makes the table of keys and the struct of settings from the same rows, so
//! that neither can have a key that the other lacks.
//!
//! A key has one name, in lower case; only the functions here know how a layer spells it.

/// One setting: its name, its help and its form.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in a file of settings.
    pub name: &'static str,
    pub(super) doc: &'static str,
    pub(super) shape: Shape,
    pub(super) placeholder: &'static str,
}

/// The form of a value in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text.
    Text,
    /// `"on"` or `"off"`.
    Switch,
    /// A whole number.
    Number,
    /// An array of texts.
    List,
    /// A text that is never shown.
    Secret,
}

impl Key {
    /// Its help, in one line.
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

/// Makes `Settings`, its reader and the table `KEYS` of rows `/// help` + `name: Type,`.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty,)+) => {
        /// The settings, typed and checked. Its fields are the keys of `orderstream.default.toml`, which explains
        /// each.
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
            /// Reads each setting as its type.
            pub(super) fn read(from: &mut impl value::Values) -> Settings {
                Settings {
                    $($name: from.value(stringify!($name)),)+
                    secret_files: from.secret_files(),
                }
            }
        }
    };
}

pub(super) use settings;
