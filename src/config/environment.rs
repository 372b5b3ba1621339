//! The environment: sorts its variables into settings, misspelt settings, and those that Kubernetes sets for its own
//! use. A setting `KEY` is read from `ORDERSTREAM_KEY`, else from `KEY`.
//!
//! It reads only the variables that it is given. A warning must never hold a value, which may be a secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{keys, names};

/// The prefix of our variables, for names that would mean something else without it.
pub(super) const PREFIX: &str = "ORDERSTREAM_";

/// The variable that names the file of settings. It is not a setting itself, because it says where they are.
pub(super) const CONFIG_VARIABLE: &str = "ORDERSTREAM_CONFIG";

/// Variables of ours that are not settings of a server: the file of settings, and the servers of clients and scripts.
const OURS: [&str; 3] = [CONFIG_VARIABLE, "ORDERSTREAM_SERVER", "ORDERSTREAM_SERVERS"];

/// Variables of other programs whose names are close to a setting.
const FOREIGN: [&str; 3] = ["POSTGRES_DB", "KAFKA_BROKER_ID", "API_HOST"];

/// The shortest name without our prefix that may count as a misspelt setting. Shorter names are too often near by
/// chance.
const SHORTEST: usize = 7;

/// The sorted environment.
#[derive(Default)]
pub(super) struct Environment {
    /// The file of settings that it names.
    pub(super) config: Option<PathBuf>,
    /// The texts of variables named as a setting.
    pub(super) plain: BTreeMap<String, String>,
    /// The texts of variables named so with our prefix. They win over those without.
    pub(super) prefixed: BTreeMap<String, String>,
    /// Variables that are ignored and were probably meant as a setting.
    pub(super) warnings: Vec<String>,
}

/// Sorts the variables.
pub(super) fn read(env: impl Iterator<Item = (String, String)>) -> Environment {
    let names: Vec<String> = names::names().collect();
    let mut found = Environment::default();
    for (variable, text) in env {
        // Only upper-case names: on Unix `bind` is another variable than `BIND`.
        let upper = variable.to_ascii_uppercase();
        if upper != variable {
            if upper.starts_with(PREFIX) {
                found
                    .warnings
                    .push(format!("{variable} is ignored: names of settings are in upper case, {upper}"));
            }
            continue;
        }
        if OURS.contains(&variable.as_str()) {
            if variable == CONFIG_VARIABLE && !text.is_empty() {
                found.config = Some(text.into());
            }
            continue;
        }
        let (name, is_prefixed) = match variable.strip_prefix(PREFIX) {
            Some(rest) => (rest.to_ascii_lowercase(), true),
            None => (variable.to_ascii_lowercase(), false),
        };
        if !names.contains(&name) {
            found.warnings.extend(unknown(&variable, &text));
        } else if is_service_link(&name, &text) {
            let other = if is_prefixed { keys::flag(&name) } else { format!("{PREFIX}{variable}") };
            found.warnings.push(format!(
                "{variable} is ignored: Kubernetes sets it to the address of a Service; set the port with {other}, or \
                 write enableServiceLinks: false into the pod's specification"
            ));
        } else if is_prefixed {
            found.prefixed.insert(name, text);
        } else {
            found.plain.insert(name, text);
        }
    }
    found.warnings.sort();
    found
}

/// Whether a port holds the address of a Service, as Kubernetes sets it and Docker's links did.
fn is_service_link(name: &str, text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    name.ends_with("_port") && ["tcp", "udp", "sctp"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// Whether a variable is one of those that Kubernetes makes for every Service.
fn is_of_a_service(variable: &str, text: &str) -> bool {
    let name = variable.to_ascii_lowercase();
    let port =
        name.split_once("_port_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    let names =
        [name.ends_with("_service_host"), name.ends_with("_service_port"), name.contains("_service_port_")];
    port || names.contains(&true) || is_service_link(&name, text)
}

/// The warning about a variable that is not a setting, where it may have been meant to be one.
fn unknown(variable: &str, text: &str) -> Option<String> {
    let (prefix, name) = match variable.strip_prefix(PREFIX) {
        Some(rest) => (PREFIX, rest.to_ascii_lowercase()),
        None => ("", variable.to_ascii_lowercase()),
    };
    let nearest = names::nearest(&name);
    let may_be_meant = !prefix.is_empty() || (name.len() >= SHORTEST && !FOREIGN.contains(&variable));
    let is_near = may_be_meant && is_close(&name, &nearest);
    // A Service named `orderstream` gives its variables our prefix.
    let is_meant = (is_near || !prefix.is_empty()) && !is_of_a_service(variable, text);
    let nearest = keys::variable(&nearest);
    is_meant.then(|| match is_near {
        true => {
            format!("{variable} is not a setting and is ignored; the nearest is {prefix}{nearest}: set that, or unset it")
        }
        false => format!("{variable} is not a setting and is ignored; `orderstream config` shows all: unset it"),
    })
}

/// Whether a name is a setting's with a few letters wrong, or with the end of its last word cut off or added.
fn is_close(name: &str, setting: &str) -> bool {
    let (short, long) = if name.len() < setting.len() { (name, setting) } else { (setting, name) };
    let rest = long.strip_prefix(short).filter(|rest| short.len() > SHORTEST && !rest.contains('_'));
    rest.is_some() || names::distance(name, setting) <= name.len() / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(env: &[(&str, &str)]) -> Vec<String> {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        read(env).warnings
    }

    #[test]
    fn the_warning_about_a_name_close_to_a_setting_names_the_setting() {
        for (wrong, nearest) in [
            ("KAFKA_BROKER", "KAFKA_BROKERS"),
            ("HISTROY", "HISTORY"),
            ("POSTGRES_DNS", "POSTGRES_DSN"),
            ("POSTGRES_DNS_FILE", "POSTGRES_DSN_FILE"),
            ("REDIS_ADDRESS", "REDIS_ADDR"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("DATA_DIRECTORY", "DATA_DIR"),
            ("KAFKA_SASL_USER", "KAFKA_SASL_USERNAME"),
            ("HTTP_BODYLIMIT", "HTTP_BODY_LIMIT"),
            ("ORDERSTREAM_KAFKA_BROKER", "ORDERSTREAM_KAFKA_BROKERS"),
            ("ORDERSTREAM_BINDD", "ORDERSTREAM_BIND"),
        ] {
            let found = warnings(&[(wrong, "hunter2")]);
            let expected = format!(
                "{wrong} is not a setting and is ignored; the nearest is {nearest}: set that, or unset it"
            );
            assert_eq!(found, [expected]);
        }
        for (name, text) in [("ORDERSTREAM_COLOUR", "red"), ("ORDERSTREAM_PORT", "8080")] {
            let found = warnings(&[(name, text)]);
            assert_eq!(
                found,
                [format!("{name} is not a setting and is ignored; `orderstream config` shows all: unset it")]
            );
        }
        let found = warnings(&[("ORDERSTREAM_Kafka_brokers", "x")]);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("in upper case, ORDERSTREAM_KAFKA_BROKERS"), "{found:?}");
    }

    #[test]
    fn names_of_other_programs_cause_no_warning() {
        for name in [
            "PATH",
            "HOME",
            "PGDATA",
            "POSTGRES_DB",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            "POSTGRES_HOST",
            "POSTGRES_PORT",
            "REDIS_URL",
            "REDIS_HOST",
            "REDIS_ARGS",
            "KAFKA_OPTS",
            "KAFKA_BROKER_ID",
            "KAFKA_HEAP_OPTS",
            "HISTFILE",
            "HISTSIZE",
            "HISTCONTROL",
            "XDG_DATA_DIRS",
            "RUST_LOG",
            "LOGNAME",
            "HTTP_PROXY",
            "API_KEY",
            "API_HOST",
            "GRPC_HOST",
            "GRPC_VERBOSITY",
            "BINDIR",
            "ORDERSTREAM_CONFIG",
            "ORDERSTREAM_SERVER",
            "ORDERSTREAM_SERVERS",
            "KAFKA_BROKERS_SERVICE_HOST",
            "kafka_broker",
        ] {
            assert_eq!(warnings(&[(name, "x")]), [""; 0], "{name}");
        }
    }

    #[test]
    fn variables_of_kubernetes_services_are_not_settings() {
        for (name, text) in [
            ("API_PORT", "tcp://10.0.0.1:8080"),
            ("API_PORT", "TCP://10.0.0.1:8080"),
            ("GRPC_PORT", "udp://10.0.0.1:50051"),
        ] {
            let found = warnings(&[(name, text)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{name} is ignored: Kubernetes sets it")), "{found:?}");
            let fix = format!("set the port with ORDERSTREAM_{name}, or write enableServiceLinks: false");
            assert!(found[0].contains(&fix), "{found:?}");
        }
        let found = warnings(&[("ORDERSTREAM_API_PORT", "tcp://10.0.0.1:8080")]);
        assert!(found[0].contains("set the port with --api-port"), "{found:?}");
        let of_services = [
            ("API_SERVICE_HOST", "10.0.0.1"),
            ("API_SERVICE_PORT", "8080"),
            ("API_SERVICE_PORT_HTTP", "8080"),
            ("API_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("API_PORT_8080_TCP_PORT", "8080"),
            ("ORDERSTREAM_SERVICE_HOST", "10.0.0.1"),
            ("ORDERSTREAM_SERVICE_PORT", "8080"),
            ("ORDERSTREAM_PORT", "tcp://10.0.0.1:8080"),
            ("ORDERSTREAM_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("ORDERSTREAM_API_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ];
        assert_eq!(warnings(&of_services), [""; 0]);
    }
}
