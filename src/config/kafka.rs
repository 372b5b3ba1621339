//! The choices there are for Kafka, by the names that Kafka has for them: how a connection is secured, how a
//! login is done, how records are compressed, and which ACKs a process reads.

use super::value::Value;

/// How the connection to Kafka is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaSecurity {
    /// Neither encrypted nor with a login.
    Plaintext,
    /// Encrypted.
    Ssl,
    /// With a login, and not encrypted.
    SaslPlaintext,
    /// Encrypted, and with a login.
    SaslSsl,
}

impl KafkaSecurity {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, KafkaSecurity::Ssl | KafkaSecurity::SaslSsl)
    }

    /// Whether there is a login.
    #[must_use]
    pub fn has_login(self) -> bool {
        matches!(self, KafkaSecurity::SaslPlaintext | KafkaSecurity::SaslSsl)
    }

    /// Its name, as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KafkaSecurity::Plaintext => "plaintext",
            KafkaSecurity::Ssl => "ssl",
            KafkaSecurity::SaslPlaintext => "sasl_plaintext",
            KafkaSecurity::SaslSsl => "sasl_ssl",
        }
    }
}

/// How the login to Kafka is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password itself is sent.
    Plain,
    /// A proof of it is sent, made with SHA-256.
    ScramSha256,
    /// A proof of it is sent, made with SHA-512.
    ScramSha512,
    /// A token is sent, which another service has issued.
    OAuthBearer,
}

impl SaslMechanism {
    /// Its name, as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Whether the login takes a name and a password.
    #[must_use]
    pub fn has_password(self) -> bool {
        self != SaslMechanism::OAuthBearer
    }
}

/// How records are compressed on their way to Kafka and in its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By Snappy.
    Snappy,
    /// By LZ4.
    Lz4,
}

impl Compression {
    /// Its name, as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
        }
    }
}

/// Which ACKs a process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckRead {
    /// Those of its own partition, which the workers learn from its events.
    Own,
    /// All, for workers that do not heed where an ACK is waited for.
    All,
}

impl Value for KafkaSecurity {
    const PLACEHOLDER: &'static str = "plaintext|ssl|sasl_plaintext|sasl_ssl";

    fn parse(text: &str) -> Result<Self, String> {
        use KafkaSecurity::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        let known = [Plaintext, Ssl, SaslPlaintext, SaslSsl];
        known.into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.as_str())).ok_or_else(|| {
            r#"there are four protocols; write "plaintext", "ssl", "sasl_plaintext" or "sasl_ssl""#.to_owned()
        })
    }
}

impl Value for SaslMechanism {
    const PLACEHOLDER: &'static str = "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER";

    fn parse(text: &str) -> Result<Self, String> {
        use SaslMechanism::{OAuthBearer, Plain, ScramSha256, ScramSha512};
        let known = [Plain, ScramSha256, ScramSha512, OAuthBearer];
        known.into_iter().find(|mechanism| text.eq_ignore_ascii_case(mechanism.as_str())).ok_or_else(|| {
            r#"there are four mechanisms; write "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER""#.to_owned()
        })
    }
}

impl Value for Compression {
    const PLACEHOLDER: &'static str = "none|gzip|snappy|lz4";

    fn parse(text: &str) -> Result<Self, String> {
        use Compression::{Gzip, Lz4, None, Snappy};
        let known = [None, Gzip, Snappy, Lz4];
        known.into_iter().find(|it| text.eq_ignore_ascii_case(it.as_str())).ok_or_else(|| {
            let fix = r#"write "none", "gzip", "snappy" or "lz4""#;
            if text.eq_ignore_ascii_case("zstd") {
                return format!("this program is built without zstd; {fix}");
            }
            format!("this program has three ways to compress; {fix}")
        })
    }
}

impl Value for AckRead {
    const PLACEHOLDER: &'static str = "own|all";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(AckRead::Own),
            "all" => Ok(AckRead::All),
            _ => Err(r#"one reads one's own or all; write "own" or "all""#.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_and_mechanisms_are_read_in_any_case() {
        assert_eq!(KafkaSecurity::parse("SASL_SSL"), Ok(KafkaSecurity::SaslSsl));
        assert_eq!(SaslMechanism::parse("scram-sha-256"), Ok(SaslMechanism::ScramSha256));
        assert_eq!(SaslMechanism::parse("oauthbearer"), Ok(SaslMechanism::OAuthBearer));
        assert_eq!(AckRead::parse("all"), Ok(AckRead::All));
        assert_eq!(Compression::parse("ZSTD").unwrap_err().find("built without zstd"), Some(16));
        for known in ["none", "gzip", "snappy", "lz4"] {
            assert_eq!(Compression::parse(known).map(Compression::as_str), Ok(known));
        }
    }

    #[test]
    fn what_is_none_of_them_is_told_what_is() {
        assert!(KafkaSecurity::parse("tls").unwrap_err().contains(r#""sasl_ssl""#));
        assert!(SaslMechanism::parse("SCRAM").unwrap_err().contains(r#""SCRAM-SHA-512""#));
        assert!(Compression::parse("brotli").unwrap_err().contains(r#""snappy" or "lz4""#));
        assert!(AckRead::parse("mine").unwrap_err().contains(r#""own" or "all""#));
    }
}
