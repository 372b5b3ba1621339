//! The layers: lays them over one another, opens the files of secrets that won, reads each text as its type, and has
//! the result checked. It stops at no mistake, so one start tells all of them.
//!
//! A secret's text leaves this file only inside its setting: never in an origin or in a message.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value as Toml;

use super::display::{MASK, tell};
use super::environment::CONFIG_VARIABLE;
use super::keys::{Key, Shape};
use super::loaded::{ConfigError, Loaded, Origin, Source};
use super::settings::{KEYS, Settings};
use super::value::{Value, Values};
use super::{check, names};

const DEFAULTS: &str = include_str!("../../orderstream.default.toml");

/// What a layer gives: texts by key, or by the name of a secret's file.
type Given = BTreeMap<String, String>;

/// The texts of the compiled-in defaults.
pub(super) fn defaults() -> Given {
    Layers::default().parse(Path::new("orderstream.default.toml"), DEFAULTS)
}

/// The layers on their way to one.
#[derive(Default)]
pub(super) struct Layers {
    /// The values so far, by key; a secret's stays in here.
    values: BTreeMap<&'static str, Origin>,
    problems: Vec<String>,
    /// What is legal, and perhaps was not meant.
    warnings: Vec<String>,
    /// Keys without a usable value; what else is said about them would mislead.
    unusable: Vec<&'static str>,
}

impl Layers {
    /// No layer yet, and warnings about what is to come.
    pub(super) fn warned(warnings: Vec<String>) -> Layers {
        Layers { warnings, ..Layers::default() }
    }

    /// Lays a layer over those before. An empty variable or flag takes away what they said: its setting is unset then,
    /// or has its default where it cannot be unset.
    pub(super) fn lay(&mut self, mut given: Given, source: impl Fn(&str) -> Source) {
        for key in KEYS {
            let file = key.file_name().and_then(|name| Some((given.remove(&name)?, name)));
            // The same of a secret's file, unless the secret itself is given.
            let emptied = file.as_ref().filter(|(path, _)| path.is_empty()).map(|(_, name)| source(name));
            let file = file.filter(|(path, _)| !path.is_empty());
            // An empty text beside a file is the file's default that was left standing.
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

    /// Reads the file of settings: the named one, which must be there, or else the usual one, which may be.
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

    /// Takes a file of settings apart.
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

    /// Replaces the names of files of secrets by their contents. Only those that won are opened.
    pub(super) fn open_secrets(&mut self) {
        for (name, value) in &mut self.values {
            let Source::SecretFile(path) = &value.source else { continue };
            let fix = match fs::read_to_string(path) {
                Ok(content) => {
                    value.text = content.trim_end_matches(['\r', '\n']).to_owned();
                    // Taken as unset, it would quietly choose another backend.
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

    /// A key with its value and where it came from, for a message.
    fn told(&self, name: &str) -> String {
        self.values.get(name).map_or_else(|| name.to_owned(), |origin| tell(name, origin))
    }

    /// Checks the whole, and lets go of the secrets' texts.
    pub(super) fn finish(mut self, settings: Settings) -> Result<Loaded, ConfigError> {
        for key in KEYS.iter().filter(|key| key.is_secret()) {
            if let Some(origin) = self.values.get_mut(key.name).filter(|origin| !origin.text.is_empty()) {
                origin.text = MASK.to_owned();
            }
        }
        for problem in check::check(&settings) {
            if !problem.keys.iter().any(|key| self.unusable.contains(key)) {
                let told: Vec<_> = problem.keys.iter().map(|key| self.told(key)).collect();
                self.problems.push(format!("{}: {}", told.join(" and "), problem.fix));
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
    /// The value of a key as its type. One that cannot be read is noted, and its default stands in, so that
    /// the other keys can be checked too.
    fn value<T: Value>(&mut self, name: &'static str) -> T {
        let problem = match self.values.get(name).map(|origin| T::parse(&origin.text)) {
            Some(Ok(value)) => return value,
            Some(Err(fix)) => format!("{}: {fix}", self.told(name)),
            None => format!("{name} has no default; this program was built wrong"),
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

/// What an empty text makes of a key.
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

/// A value as the text it would be in a variable; `None` for what no setting is.
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

/// What the file should hold where it holds something else.
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
