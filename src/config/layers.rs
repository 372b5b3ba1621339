//! The layers: merges them, opens the files of secrets that won, reads each text as its type, and has the result
//! checked. A mistake does not end the loading, so one start reports all of them.
//!
//! A secret's text must leave this file only inside its setting: never in an origin or in a message.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value as Toml;

use super::display::{MASK, shown};
use super::environment::CONFIG_VARIABLE;
use super::keys::{Key, Shape};
use super::loaded::{ConfigError, Loaded, Origin, Source};
use super::settings::{KEYS, Settings};
use super::value::{Value, Values};
use super::{check, names};

const DEFAULTS: &str = include_str!("../../orderstream.default.toml");

/// The texts of a layer, by key or by the name of a secret's file.
type Given = BTreeMap<String, String>;

/// The texts of the compiled-in defaults.
pub(super) fn defaults() -> Given {
    Layers::default().parse(Path::new("orderstream.default.toml"), DEFAULTS)
}

/// The layers that are merged so far.
#[derive(Default)]
pub(super) struct Layers {
    /// The values so far, by key, secrets included.
    values: BTreeMap<&'static str, Origin>,
    problems: Vec<String>,
    /// Settings that are legal but probably not intended.
    warnings: Vec<String>,
    /// Keys without a usable value; a further message about them would mislead.
    unusable: Vec<&'static str>,
}

impl Layers {
    /// No layer yet, with warnings about the layers to come.
    pub(super) fn warned(warnings: Vec<String>) -> Layers {
        Layers { warnings, ..Layers::default() }
    }

    /// Lays a layer over those before. An empty variable or flag removes the value of the layers before: its setting is
    /// unset then, or has its default where it cannot be unset.
    pub(super) fn lay(&mut self, mut given: Given, source: impl Fn(&str) -> Source) {
        for key in KEYS {
            let file = key.file_name().and_then(|name| Some((given.remove(&name)?, name)));
            // An empty name of a secret's file does the same, unless the secret itself is given.
            let emptied = file.as_ref().filter(|(path, _)| path.is_empty()).map(|(_, name)| source(name));
            let file = file.filter(|(path, _)| !path.is_empty());
            // An empty text beside a secret's file is a copy of the default file's line.
            let text = given.remove(key.name).filter(|text| file.is_none() || !text.is_empty());
            let origin = match (text, file) {
                (None, None) => match emptied {
                    Some(source @ (Source::Env(_) | Source::Flag(_))) => empty(key, source),
                    _ => continue,
                },
                (Some(text), None) if text.is_empty() => empty(key, source(key.name)),
                (Some(text), None) => Origin { text, source: source(key.name) },
                (None, Some((path, _))) => {
                    Origin { text: String::new(), source: Source::SecretFile(path.into()) }
                }
                (Some(_), Some((_, name))) => {
                    self.problems.push(both(&source(key.name), &source(&name), key.name, &name));
                    continue;
                }
            };
            self.values.insert(key.name, origin);
        }
    }

    /// Reads the file of settings: the named one, which must exist, else the usual one, if it exists.
    pub(super) fn open(&mut self, named: Option<PathBuf>, usual: Option<&Path>) -> Option<(PathBuf, String)> {
        let must_exist = named.is_some();
        let path = named.or(usual.map(Path::to_owned))?;
        match fs::read_to_string(&path) {
            Ok(content) => Some((path, content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => None,
            Err(error) => {
                let fix = format!("name another with --config or {CONFIG_VARIABLE}, or make it readable");
                self.problems
                    .push(format!("the file of settings {} cannot be read: {error}; {fix}", path.display()));
                None
            }
        }
    }

    /// Parses a file of settings.
    pub(super) fn parse(&mut self, path: &Path, content: &str) -> Given {
        let from = Source::File(path.to_owned());
        let table = content.parse::<toml::Table>().unwrap_or_else(|error| {
            // The error's own display quotes the line, which may hold a secret.
            let line = 1 + error.span().map_or(0, |span| content[..span.start].matches('\n').count());
            self.problems.push(format!("line {line} ({from}) is not TOML: {}", error.message()));
            toml::Table::new()
        });
        let mut given = Given::new();
        for (name, value) in table {
            let key = KEYS.iter().find(|key| key.name == name);
            if key.is_none() && !names::names().any(|known| known == name) {
                let nearest = names::nearest(&name);
                self.problems.push(format!(
                    "{name} ({from}): no such key; the nearest is {nearest}: write that, or remove the line"
                ));
            } else if let Some(text) = text_of(&value, key.is_some_and(|key| key.shape == Shape::List)) {
                given.insert(name, text);
            } else {
                let found = value.type_str();
                self.problems
                    .push(format!("{name} ({from}): {found} does not fit here; write {}", wanted(key)));
            }
        }
        given
    }

    /// Replaces the names of secrets' files by their contents. Only the files that won are opened.
    pub(super) fn open_secrets(&mut self) {
        for (name, value) in &mut self.values {
            let Source::SecretFile(path) = &value.source else { continue };
            let fix = match fs::read_to_string(path) {
                Ok(content) => {
                    value.text = content.trim_end_matches(['\r', '\n']).to_owned();
                    // An empty secret counts as a mistake: as unset, it would silently choose another backend.
                    if !value.text.is_empty() {
                        continue;
                    }
                    "the file is empty; write the secret into it, or leave the file's name out".to_owned()
                }
                Err(error) => format!("{error}; name a file that can be read"),
            };
            self.unusable.push(name);
            self.problems.push(format!("{name} ({}): {fix}", value.source));
        }
    }

    /// A key with its value and its source, for a message.
    fn shown(&self, name: &str) -> String {
        self.values.get(name).map_or_else(|| name.to_owned(), |origin| shown(name, origin))
    }

    /// Checks the rules between settings, and removes the secrets' texts.
    pub(super) fn finish(mut self, settings: Settings) -> Result<Loaded, ConfigError> {
        for key in KEYS.iter().filter(|key| key.is_secret()) {
            if let Some(origin) = self.values.get_mut(key.name).filter(|origin| !origin.text.is_empty()) {
                origin.text = MASK.to_owned();
            }
        }
        for problem in check::check(&settings) {
            if !problem.keys.iter().any(|key| self.unusable.contains(key)) {
                let shown: Vec<_> = problem.keys.iter().map(|key| self.shown(key)).collect();
                self.problems.push(format!("{}: {}", shown.join(" and "), problem.fix));
            }
        }
        if self.problems.is_empty() {
            self.warnings.extend(settings.warnings());
            Ok(Loaded { settings, origin: self.values, warnings: self.warnings })
        } else {
            Err(ConfigError { problems: self.problems })
        }
    }
}

impl Values for Layers {
    /// The value of a key as its type. A value that cannot be read becomes a problem, and its default replaces it, so
    /// that the other keys can be checked, too.
    fn value<T: Value>(&mut self, name: &'static str) -> T {
        let problem = match self.values.get(name).map(|origin| T::parse(&origin.text)) {
            Some(Ok(value)) => return value,
            Some(Err(fix)) => format!("{}: {fix}", self.shown(name)),
            None => format!("{name} has no default, which is a defect of this program; report it"),
        };
        self.problems.push(problem);
        self.unusable.push(name);
        let default = defaults().remove(name).unwrap_or_default();
        T::parse(&default).expect("the compiled-in defaults are legal; a test loads them")
    }

    /// The files of secrets that won, by key.
    fn secret_files(&self) -> BTreeMap<&'static str, PathBuf> {
        let file = |(name, value): (&&'static str, &Origin)| match &value.source {
            Source::SecretFile(path) => Some((*name, path.clone())),
            _ => None,
        };
        self.values.iter().filter_map(file).collect()
    }
}

/// The origin of a key whose text is empty.
fn empty(key: &Key, source: Source) -> Origin {
    let can_be_unset = matches!(key.shape, Shape::List | Shape::Secret);
    let default = defaults().remove(key.name).filter(|default| !default.is_empty() && !can_be_unset);
    match (default, source) {
        (Some(text), Source::Env(name) | Source::Flag(name)) => {
            Origin { text, source: Source::Emptied(name) }
        }
        (_, source) => Origin { text: String::new(), source },
    }
}

/// A value as the text that a variable would hold; `None` for a type that no setting has.
fn text_of(value: &Toml, list: bool) -> Option<String> {
    match value {
        Toml::String(text) => Some(text.clone()),
        Toml::Integer(number) => Some(number.to_string()),
        Toml::Boolean(flag) => Some(flag.to_string()),
        Toml::Array(values) if list => {
            let texts: Option<Vec<_>> = values.iter().map(Toml::as_str).collect();
            Some(texts?.join(","))
        }
        Toml::Array(_) | Toml::Float(_) | Toml::Datetime(_) | Toml::Table(_) => None,
    }
}

/// The form of a value in the file, for a message about another one.
fn wanted(key: Option<&Key>) -> &'static str {
    match key.map(|key| key.shape) {
        Some(Shape::Number) => "a whole number",
        Some(Shape::List) => r#"texts in brackets, as ["a:9092", "b:9092"]"#,
        _ => "a text in quotes",
    }
}

/// The message about a secret that one layer gives twice.
fn both(direct: &Source, file: &Source, key: &str, file_key: &str) -> String {
    let (one, other) = match (direct, file) {
        (Source::Env(one) | Source::Flag(one), Source::Env(other) | Source::Flag(other)) => {
            (one.clone(), other.clone())
        }
        _ => (format!("{key} ({direct})"), format!("{file_key} ({file})")),
    };
    format!("{one} and {other} are both given; keep one of them")
}
