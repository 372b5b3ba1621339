//! The DSN, as libpq reads it. The driver does not know `sslmode=verify-ca`, `sslmode=verify-full` and
//! `sslrootcert`; they are taken out here, and everything else is the driver's. No message repeats the DSN: it may
//! hold a password.

use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::tls::Verify;

/// A parsed DSN.
#[derive(Debug)]
pub(super) struct Dsn {
    pub(super) config: Config,
    pub(super) verify: Verify,
    /// The certificates of the authorities that may have signed the server's, in PEM.
    pub(super) root_cert: Option<PathBuf>,
}

/// Why a text is no DSN.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// The driver cannot read it.
    #[error("{0}; write it as postgres://user:password@host:5432/database")]
    Syntax(tokio_postgres::Error),
    /// `sslmode` is none of libpq's.
    #[error("sslmode {0:?} is unknown; write disable, prefer, require, verify-ca or verify-full")]
    SslMode(String),
    /// Verification without anything to verify by.
    #[error("sslmode={0} needs sslrootcert=FILE, the certificates (PEM) of the authorities to trust")]
    NoRootCert(String),
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
    pub(super) fn parse(text: &str) -> Result<Dsn, DsnError> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (rest, pairs) = if is_url { split_url(text) } else { split_pairs(text) };
        let mut config: Config = rest.parse().map_err(DsnError::Syntax)?;
        let (mut mode, mut root_cert) = ("prefer".to_owned(), None);
        for (key, value) in pairs {
            match key {
                Key::SslMode => mode = value,
                Key::SslRootCert => {
                    root_cert = Some(PathBuf::from(value)).filter(|path| *path != PathBuf::new())
                }
            }
        }
        let (ssl_mode, verify) = match (mode.as_str(), &root_cert) {
            ("disable", _) => (SslMode::Disable, Verify::Nothing),
            ("prefer", _) => (SslMode::Prefer, Verify::Nothing),
            // As libpq does: whoever names authorities wants them asked.
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

/// What is read here and not by the driver.
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

/// Takes our parameters out of a URL's query.
fn split_url(text: &str) -> (String, Vec<(Key, String)>) {
    let Some((base, query)) = text.split_once('?') else { return (text.to_owned(), Vec::new()) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match Key::parse(name) {
            Some(key) => ours.push((key, percent_decoded(value))),
            None => theirs.push(parameter),
        }
    }
    let rest = if theirs.is_empty() { base.to_owned() } else { format!("{base}?{}", theirs.join("&")) };
    (rest, ours)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes our pairs out of libpq's `key=value` form, where a value may stand in quotes and a backslash escapes.
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

/// The value at the beginning of a text, and how many bytes it takes there.
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
    fn what_the_driver_does_not_know_is_taken_out_of_both_forms() {
        for text in [
            "postgres://u:p%20w@h:7/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fca%20s%2Fr.pem",
            "host=h port = 7 user=u password='p w' dbname=d sslmode=verify-full sslrootcert='/ca s/r.pem' application_name=x",
            r"sslrootcert=/ca\ s/r.pem host=h port=7 user=u password=p\ w dbname=d application_name=x sslmode = 'verify-full'",
        ] {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!(dsn.verify, Verify::AuthorityAndName, "{text}");
            assert_eq!(dsn.root_cert, Some(PathBuf::from("/ca s/r.pem")), "{text}");
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
        ] {
            let dsn = Dsn::parse(&format!("postgres://h/d{query}")).unwrap();
            assert_eq!((dsn.config.get_ssl_mode(), dsn.verify), (mode, verify), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        for (text, word) in [
            ("postgres://u:secret@h/d?sslmode=always", "verify-full"),
            ("postgres://u:secret@h/d?sslmode=verify-ca", "sslrootcert=FILE"),
            ("postgres://u:secret@h:port/d", "postgres://user"),
            ("password=secret nonsense", "postgres://user"),
            ("password='secret", "postgres://user"),
        ] {
            let message = Dsn::parse(text).unwrap_err().to_string();
            assert!(message.contains(word) && !message.contains("secret"), "{message}");
        }
    }
}
