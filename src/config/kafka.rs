//! The choices for Kafka, by Kafka's names: the security of a connection, the mechanism of a login, the compression of
//! records, and the ACKs that a process reads. The bus, not this room, acts on them: it passes Kafka's names on to the
//! client library as they are, so a name must never differ from Kafka's. They are read in any case, except for the
//! ACKs, whose words are our own. The rules between these settings are in `check_kafka`.

use super::value::Value;

/// The security of the connection to Kafka.
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

    /// Its name in the settings.
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

/// The mechanism of the login to Kafka.
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
    /// Its name in the settings.
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

/// The compression of records on their way to Kafka and in its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
}

impl Compression {
    /// Its name in the settings.
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

/// The ACKs that a process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckRead {
    /// Those of its own partition, which its events name to the workers.
    Own,
    /// All, for workers that ignore the partition that an event names.
    All,
}

impl Value for KafkaSecurity {
    const PLACEHOLDER: &'static str = "plaintext|ssl|sasl_plaintext|sasl_ssl";

    fn parse(text: &str) -> Result<Self, String> {
        use KafkaSecurity::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        let known = [Plaintext, Ssl, SaslPlaintext, SaslSsl];
        known.into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.as_str())).ok_or_else(|| {
            r#"write one of the four protocols "plaintext", "ssl", "sasl_plaintext" and "sasl_ssl""#
                .to_owned()
        })
    }
}

impl Value for SaslMechanism {
    const PLACEHOLDER: &'static str = "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER";

    fn parse(text: &str) -> Result<Self, String> {
        use SaslMechanism::{OAuthBearer, Plain, ScramSha256, ScramSha512};
        let known = [Plain, ScramSha256, ScramSha512, OAuthBearer];
        known.into_iter().find(|mechanism| text.eq_ignore_ascii_case(mechanism.as_str())).ok_or_else(|| {
            r#"write one of the four mechanisms "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" and "OAUTHBEARER""#.to_owned()
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
            format!("the compression is unknown; {fix}")
        })
    }
}

impl Value for AckRead {
    const PLACEHOLDER: &'static str = "own|all";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(AckRead::Own),
            "all" => Ok(AckRead::All),
            _ => Err(r#"a process reads its own partition of ACKs, or all; write "own" or "all""#.to_owned()),
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
    fn an_unknown_choice_is_answered_with_the_known_ones() {
        assert!(KafkaSecurity::parse("tls").unwrap_err().contains(r#""sasl_ssl""#));
        assert!(SaslMechanism::parse("SCRAM").unwrap_err().contains(r#""SCRAM-SHA-512""#));
        assert!(Compression::parse("brotli").unwrap_err().contains(r#""snappy" or "lz4""#));
        assert!(AckRead::parse("mine").unwrap_err().contains(r#""own" or "all""#));
    }
}
