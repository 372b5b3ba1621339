//! The settings on the command line: one flag for each key of the table, and `--config`. They are made from the table
//! and not by clap's derive, so that no flag can be missing, misnamed or without its help.
//!
//! Nothing is checked here: the flags are a layer like the others, and the mistakes of all layers are reported
//! together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::keys::{self, Key};
use super::layers;
use super::names;
use super::settings::KEYS;

/// The settings on the command line. Flatten it into the outermost parser: its flags are global.
#[derive(Clone, Default)]
pub struct Flags {
    /// The file of settings to read.
    pub(super) config: Option<PathBuf>,
    /// The texts of the flags that were given, by key.
    pub(super) given: BTreeMap<String, String>,
}

/// Shows which flags were given, without their values, which may be secrets.
impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given: Vec<_> = self.given.keys().collect();
        f.debug_struct("Flags").field("config", &self.config).field("given", &given).finish()
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let defaults = layers::defaults();
        let config = setting("config")
            .value_name("FILE")
            .value_parser(ValueParser::path_buf())
            .help("File of settings; without it ./orderstream.toml if it exists [env: ORDERSTREAM_CONFIG]");
        KEYS.iter().fold(command.arg(config), |command, key| {
            let default = defaults.get(key.name).filter(|text| !text.is_empty());
            let default = default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
            let help =
                format!("{} [env: {}]{default}", key.help().trim_end_matches('.'), keys::variable(key.name));
            let command = command.arg(setting(key.name).value_name(key.placeholder).help(help));
            match key.file_name() {
                Some(name) => command.arg(secret_file(key, &name)),
                None => command,
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

fn setting(name: &str) -> Arg {
    // clap keeps names for the life of the process, so each is leaked once.
    let name: &'static str = name.to_owned().leak();
    let long: &'static str = name.replace('_', "-").leak();
    Arg::new(name).long(long).global(true).help_heading("Settings")
}

fn secret_file(key: &Key, name: &str) -> Arg {
    let direct = keys::flag(key.name);
    let help = format!(
        "File that holds {direct}; other users of the machine can read a flag's value [env: {}]",
        keys::variable(name)
    );
    setting(name).value_name("FILE").help(help)
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        for name in names::names() {
            if let Some(text) = matches.get_one::<String>(&name) {
                self.given.insert(name, text.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
        #[command(subcommand)]
        command: Option<Sub>,
    }

    #[derive(Subcommand)]
    enum Sub {
        Run,
    }

    #[test]
    fn a_flag_counts_before_and_behind_the_subcommand() {
        for line in [["x", "--ack-wait", "off", "run"], ["x", "run", "--ack-wait", "off"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(matches!(cli.command, Some(Sub::Run)));
            assert_eq!(cli.flags.given["ack_wait"], "off");
            assert_eq!(cli.flags.given.len(), 1);
        }
        let cli = Cli::try_parse_from(["x", "run", "--config", "my.toml"]).unwrap();
        assert_eq!(cli.flags.config, Some(PathBuf::from("my.toml")));
    }

    #[test]
    fn every_key_has_a_flag_whose_help_names_the_variable() {
        let help = <Cli as clap::CommandFactory>::command().term_width(0).render_long_help().to_string();
        for name in names::names() {
            assert!(help.contains(&format!("{} <", keys::flag(&name))), "{name}\n{help}");
            assert!(help.contains(&format!("[env: {}]", keys::variable(&name))), "{name}");
        }
        assert!(help.contains("Settings:") && help.contains("[default: 30s]"));
    }

    #[test]
    fn the_debug_of_the_flags_shows_no_value() {
        let cli = Cli::try_parse_from(["x", "--postgres-dsn", "hunter2"]).unwrap();
        let shown = format!("{:?}", cli.flags);
        assert!(shown.contains("postgres_dsn") && !shown.contains("hunter2"), "{shown}");
    }
}
