//! Parses the DSN as libpq does. The driver does not know `sslmode=verify-ca`, `sslmode=verify-full` and `sslrootcert`;
//! this file removes them, and the driver parses the rest. A message must never quote the DSN, which may hold a
//! password.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A parsed DSN.
#[derive(Debug)]
pub(in crate::store::postgres) struct Dsn {
    pub(in crate::store::postgres) config: Config,
    pub(super) verify: Verify,
    /// The certificates of the authorities that may have signed the server's certificate.
    pub(super) root_cert: Option<RootCert>,
}

/// How much of the server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// Nothing: the connection is encrypted, but the server is not authenticated.
    Nothing,
    /// A trusted authority signed it.
    Authority,
    /// A trusted authority signed it, and it has the name of the host.
    AuthorityAndName,
}

/// The trusted authorities of `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RootCert {
    /// The certificates in a file, in PEM.
    File(PathBuf),
    /// The authorities that the system trusts.
    System,
}

/// One host of a DSN, with the configuration to connect to it.
pub(in crate::store::postgres) struct HostConfig {
    /// Host and port, for messages.
    pub(in crate::store::postgres) name: String,
    /// The DSN with this host alone.
    pub(in crate::store::postgres) config: Config,
}

/// Why a DSN cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// The driver cannot read it.
    #[error("{0}; write it as postgres://user:password@host:5432/database")]
    Syntax(tokio_postgres::Error),
    /// `sslmode` has a value that libpq does not know.
    #[error("sslmode {0:?} is unknown; write disable, prefer, require, verify-ca or verify-full")]
    SslMode(String),
    /// `sslmode` demands a verification, and `sslrootcert` is missing.
    #[error(
        "sslmode={0} needs sslrootcert=FILE, the certificates (PEM) of the authorities to trust, or sslrootcert=system"
    )]
    NoRootCert(String),
    /// `sslmode` does not verify the name, and the system's authorities sign for any name.
    #[error(
        "sslmode={0} is too weak for sslrootcert=system: those authorities sign for any name; write verify-full, or \
         leave sslmode out"
    )]
    WeakMode(String),
    /// The system's certificates cannot be used.
    #[error("sslrootcert=system: {0}")]
    SystemRootCerts(String),
    /// The file of certificates cannot be used.
    #[error("sslrootcert {}: {reason}", path.display())]
    RootCert {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Dsn {
    /// Parses a URL or libpq's `key=value` pairs.
    pub(in crate::store::postgres) fn parse(text: &str) -> Result<Dsn, DsnError> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (rest, pairs) = if is_url { split_url(text) } else { split_pairs(text) };
        let mut config: Config = rest.parse().map_err(DsnError::Syntax)?;
        let (mut mode, mut root_cert) = (None, None);
        for (key, value) in pairs {
            match key {
                Key::SslMode => mode = Some(value),
                Key::SslRootCert => {
                    root_cert = match value.as_str() {
                        "" => None,
                        "system" => Some(RootCert::System),
                        path => Some(RootCert::File(path.into())),
                    }
                }
            }
        }
        let default = if root_cert == Some(RootCert::System) { "verify-full" } else { "prefer" };
        let mode = mode.unwrap_or_else(|| default.to_owned());
        let (ssl_mode, verify) = match (mode.as_str(), &root_cert) {
            ("disable" | "prefer" | "require" | "verify-ca", Some(RootCert::System)) => {
                return Err(DsnError::WeakMode(mode));
            }
            ("disable", _) => (SslMode::Disable, Verify::Nothing),
            ("prefer", _) => (SslMode::Prefer, Verify::Nothing),
            // As libpq does: a DSN that names authorities demands the check.
            ("require", None) => (SslMode::Require, Verify::Nothing),
            ("require" | "verify-ca", Some(_)) => (SslMode::Require, Verify::Authority),
            ("verify-full", Some(_)) => (SslMode::Require, Verify::AuthorityAndName),
            ("verify-ca" | "verify-full", None) => return Err(DsnError::NoRootCert(mode)),
            _ => return Err(DsnError::SslMode(mode)),
        };
        config.ssl_mode(ssl_mode);
        Ok(Dsn { config, verify, root_cert })
    }
}

/// The hosts of a configuration, each with a configuration of its own.
pub(in crate::store::postgres) fn host_configs(config: &Config) -> Vec<HostConfig> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    // The driver refuses lists that do not match, with its own message.
    let is_uneven = !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len();
    if count == 0 || is_uneven || (ports.len() > 1 && ports.len() != count) {
        return vec![HostConfig { name: "the host of the DSN".to_owned(), config: config.clone() }];
    }
    let host = |at: usize| {
        let mut alone = without_hosts(config);
        // As libpq does: one port for all, or one for each.
        let port = *ports.get(at).or_else(|| ports.first()).unwrap_or(&5432);
        alone.port(port);
        if let Some(address) = addresses.get(at) {
            alone.hostaddr(*address);
        }
        let name = match hosts.get(at) {
            Some(Host::Tcp(name)) => {
                alone.host(name);
                name.clone()
            }
            Some(Host::Unix(path)) => {
                alone.host_path(path);
                path.display().to_string()
            }
            None => addresses.get(at).map(ToString::to_string).unwrap_or_default(),
        };
        HostConfig { name: format!("{name}:{port}"), config: alone }
    };
    (0..count).map(host).collect()
}

/// A copy of a configuration without its hosts and ports.
fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    config.get_user().map(|user| copy.user(user));
    config.get_password().map(|password| copy.password(password));
    config.get_dbname().map(|name| copy.dbname(name));
    config.get_options().map(|options| copy.options(options));
    config.get_application_name().map(|name| copy.application_name(name));
    config.get_connect_timeout().map(|time| copy.connect_timeout(*time));
    config.get_tcp_user_timeout().map(|time| copy.tcp_user_timeout(*time));
    config.get_keepalives_interval().map(|time| copy.keepalives_interval(time));
    config.get_keepalives_retries().map(|count| copy.keepalives_retries(count));
    copy.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    copy.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    copy.channel_binding(config.get_channel_binding());
    copy.target_session_attrs(config.get_target_session_attrs());
    copy.load_balance_hosts(config.get_load_balance_hosts());
    copy
}

/// A parameter that this file reads instead of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    SslMode,
    SslRootCert,
}

impl Key {
    fn parse(text: &str) -> Option<Key> {
        match text {
            "sslmode" => Some(Key::SslMode),
            "sslrootcert" => Some(Key::SslRootCert),
            _ => None,
        }
    }
}

/// Splits our parameters from a URL's query.
fn split_url(text: &str) -> (String, Vec<(Key, String)>) {
    let Some((base, query)) = text.split_once('?') else { return (text.to_owned(), Vec::new()) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match Key::parse(name) {
            Some(key) => ours.push((key, percent_decode_str(value).decode_utf8_lossy().into_owned())),
            None => theirs.push(parameter),
        }
    }
    let rest = if theirs.is_empty() { base.to_owned() } else { format!("{base}?{}", theirs.join("&")) };
    (rest, ours)
}

/// Splits our pairs from libpq's `key=value` form, where a value may be quoted and a backslash escapes.
fn split_pairs(text: &str) -> (String, Vec<(Key, String)>) {
    let (mut ours, mut theirs) = (Vec::new(), String::new());
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            theirs.push_str(rest);
            break;
        };
        let (value, length) = value_of(after.trim_start());
        let end = rest.len() - after.trim_start().len() + length;
        match Key::parse(name.trim()) {
            Some(key) => ours.push((key, value)),
            None => {
                theirs.push_str(&rest[..end]);
                theirs.push(' ');
            }
        }
        rest = rest[end..].trim_start();
    }
    (theirs, ours)
}

/// The value at the beginning of a text, and its length there in bytes.
fn value_of(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return (value, at + 1),
            c if c.is_whitespace() && !quoted => return (value, at),
            c => value.push(c),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_the_driver_does_not_know_are_removed_from_both_forms() {
        for text in [
            "postgres://u:p%20w@h:7/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fca%20s%2Fr.pem",
            "host=h port = 7 user=u password='p w' dbname=d sslmode=verify-full sslrootcert='/ca s/r.pem' application_name=x",
            r"sslrootcert=/ca\ s/r.pem host=h port=7 user=u password=p\ w dbname=d application_name=x sslmode = 'verify-full'",
        ] {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!(dsn.verify, Verify::AuthorityAndName, "{text}");
            assert_eq!(dsn.root_cert, Some(RootCert::File("/ca s/r.pem".into())), "{text}");
            assert_eq!(dsn.config.get_ssl_mode(), SslMode::Require, "{text}");
            assert_eq!(dsn.config.get_password(), Some(b"p w".as_slice()), "{text}");
            assert_eq!(dsn.config.get_application_name(), Some("x"), "{text}");
            assert_eq!(dsn.config.get_ports(), [7], "{text}");
        }
    }

    #[test]
    fn sslmode_means_what_it_means_to_libpq() {
        for (query, mode, verify) in [
            ("", SslMode::Prefer, Verify::Nothing),
            ("?sslmode=disable", SslMode::Disable, Verify::Nothing),
            ("?sslmode=require", SslMode::Require, Verify::Nothing),
            ("?sslmode=require&sslrootcert=r", SslMode::Require, Verify::Authority),
            ("?sslmode=verify-ca&sslrootcert=r", SslMode::Require, Verify::Authority),
            ("?sslrootcert=system", SslMode::Require, Verify::AuthorityAndName),
            ("?sslmode=verify-full&sslrootcert=system", SslMode::Require, Verify::AuthorityAndName),
        ] {
            let dsn = Dsn::parse(&format!("postgres://h/d{query}")).unwrap();
            assert_eq!((dsn.config.get_ssl_mode(), dsn.verify), (mode, verify), "{query}");
        }
    }

    #[test]
    fn each_host_has_a_configuration_of_its_own_with_all_other_parameters() {
        let text = "postgres://u:pw@one,two:7/d?application_name=x&options=-cgeqo%3Doff&keepalives_idle=9";
        let parsed = Dsn::parse(text).unwrap();
        let hosts = host_configs(&parsed.config);
        assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["one:5432", "two:7"]);
        for HostConfig { config, .. } in &hosts {
            assert_eq!((config.get_hosts().len(), config.get_ports().len()), (1, 1));
            assert_eq!(config.get_password(), Some(b"pw".as_slice()));
            assert_eq!(config.get_options(), Some("-cgeqo=off"));
            assert_eq!(config.get_keepalives_idle().as_secs(), 9);
        }
        let together = Dsn::parse("host=one,two hostaddr=127.0.0.1,127.0.0.2 port=7,8 user=u").unwrap();
        let names: Vec<String> =
            super::host_configs(&together.config).into_iter().map(|host| host.name).collect();
        assert_eq!(names, ["one:7", "two:8"]);
    }

    #[test]
    fn errors_do_not_quote_the_password() {
        for (text, word) in [
            ("postgres://u:secret@h/d?sslmode=always", "verify-full"),
            ("postgres://u:secret@h/d?sslmode=verify-ca", "sslrootcert=FILE"),
            ("postgres://u:secret@h/d?sslmode=require&sslrootcert=system", "write verify-full"),
            ("postgres://u:secret@h:port/d", "postgres://user"),
            ("password=secret nonsense", "postgres://user"),
            ("password='secret", "postgres://user"),
        ] {
            let message = Dsn::parse(text).unwrap_err().to_string();
            assert!(message.contains(word) && !message.contains("secret"), "{message}");
        }
    }
}
