//! Loading: the layers, their order, and the source of each. Only this file has the order: the defaults, the file,
//! plain variables, variables with the prefix, flags; the later wins. `layers` merges them and collects the mistakes,
//! so that one start reports all. The environment is an argument, so the same arguments and files always give the same
//! settings. The compiled-in defaults need no file and no variable, and must be legal.

use std::path::Path;

use super::environment::{self, PREFIX};
use super::flags::Flags;
use super::keys;
use super::layers::{Layers, defaults};
use super::loaded::{ConfigError, Loaded, Source};
use super::settings::Settings;

impl Settings {
    /// Reads the settings from all layers. `env` is the process's environment; it is read nowhere else. The
    /// file is the one of `--config`, else of `ORDERSTREAM_CONFIG`, else `./orderstream.toml` if it exists.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigError> {
        load(flags, env, Some(Path::new("orderstream.toml")))
    }
}

/// The compiled-in defaults, independent of the environment and the working directory.
impl Default for Settings {
    fn default() -> Settings {
        let loaded = load(&Flags::default(), std::iter::empty(), None);
        loaded.expect("the compiled-in defaults are legal; a test loads them").settings
    }
}

/// Loads all layers. `usual` is the file that is read where none is named, if it exists.
pub(super) fn load(
    flags: &Flags,
    env: impl Iterator<Item = (String, String)>,
    usual: Option<&Path>,
) -> Result<Loaded, ConfigError> {
    let env = environment::read(env);
    let mut layers = Layers::warned(env.warnings);
    layers.lay(defaults(), |_| Source::Default);
    if let Some((path, content)) = layers.open(flags.config.clone().or(env.config), usual) {
        let given = layers.parse(&path, &content);
        layers.lay(given, |_| Source::File(path.clone()));
    }
    layers.lay(env.plain, |name| Source::Env(keys::variable(name)));
    layers.lay(env.prefixed, |name| Source::Env(format!("{PREFIX}{}", keys::variable(name))));
    layers.lay(flags.given.clone(), |name| Source::Flag(keys::flag(name)));
    layers.open_secrets();

    let settings = Settings::read(&mut layers);
    layers.finish(settings)
}
