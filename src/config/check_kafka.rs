//! The rules between the settings for Kafka: what a login, an encrypted connection and a client's certificate need, and
//! what a build without OpenSSL cannot do. A broken rule names its keys and the fix.
//!
//! Nothing here opens a file: the same settings always give the same result.

use super::kafka::SaslMechanism;
use super::rules::{Rules, is_topic};
use super::settings::Settings;

/// Whether this program has the Kafka client's TLS, and SCRAM, which comes with it.
const HAS_KAFKA_TLS: bool = cfg!(feature = "kafka-tls");

/// Checks the rules for Kafka.
pub(super) fn check(settings: &Settings, rules: &mut Rules) {
    let (protocol, mechanism) = (settings.kafka_security_protocol, settings.kafka_sasl_mechanism);
    let password = settings.kafka_sasl_password.is_some() && !settings.kafka_sasl_username.is_empty();
    rules.holds(
        !protocol.has_login() || !mechanism.has_password() || password,
        &["kafka_security_protocol", "kafka_sasl_username", "kafka_sasl_password"],
        "a login needs a name and a password; give both, or choose a protocol without a login",
    );
    rules.holds(
        !protocol.has_login() || mechanism.has_password() || settings.kafka_oauth_token_file.is_some(),
        &["kafka_sasl_mechanism", "kafka_oauth_token_file"],
        "a login with OAUTHBEARER needs a token; give the file that holds it, or choose another mechanism",
    );
    rules.holds(
        HAS_KAFKA_TLS || !protocol.is_encrypted(),
        &["kafka_security_protocol"],
        "this program was built without TLS for Kafka; build it with `--features kafka-tls`",
    );
    rules.holds(
        HAS_KAFKA_TLS || !protocol.has_login() || mechanism == SaslMechanism::Plain,
        &["kafka_sasl_mechanism"],
        "this program was built without SCRAM and OAUTHBEARER; build it with `--features kafka-tls`, or write PLAIN",
    );
    let (certificate, key) = (&settings.kafka_client_cert_file, &settings.kafka_client_key_file);
    rules.holds(
        certificate.is_some() == key.is_some(),
        &["kafka_client_cert_file", "kafka_client_key_file"],
        "a certificate and its private key are used together; give both files, or neither",
    );
    rules.holds(
        settings.kafka_client_key_password.is_none() || key.is_some(),
        &["kafka_client_key_password", "kafka_client_key_file"],
        "there is a password without a private key; give the key's file, or remove the password",
    );
    rules.holds(
        certificate.is_none() || protocol.is_encrypted(),
        &["kafka_client_cert_file", "kafka_security_protocol"],
        r#"a certificate needs an encrypted connection; write "ssl" or "sasl_ssl", or remove the certificate"#,
    );
    let member = &settings.kafka_group_instance_id;
    rules.holds(
        member.is_empty() || is_topic(member, 249),
        &["kafka_group_instance_id"],
        "the name of a member consists of at most 249 letters, digits, '.', '_' and '-'; write one such as \
         \"worker-0\"",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaSecurity::{self, SaslPlaintext, SaslSsl, Ssl};

    /// The keys of the rules that the defaults break after a change.
    fn broken(change: impl FnOnce(&mut Settings)) -> Vec<&'static str> {
        let mut settings = Settings::default();
        change(&mut settings);
        let mut rules = Rules::default();
        check(&settings, &mut rules);
        rules.broken().iter().flat_map(|problem| problem.keys).copied().collect()
    }

    fn unless_built(keys: &[&'static str]) -> Vec<&'static str> {
        if HAS_KAFKA_TLS { Vec::new() } else { keys.to_vec() }
    }

    #[test]
    fn a_login_to_kafka_needs_a_name_and_a_password() {
        let keys = ["kafka_security_protocol", "kafka_sasl_username", "kafka_sasl_password"];
        let login = |s: &mut Settings| s.kafka_security_protocol = SaslPlaintext;
        let name = |s: &mut Settings| s.kafka_sasl_username = "orders".to_owned();
        let password = |s: &mut Settings| s.kafka_sasl_password = Some("hunter2".into());
        assert_eq!(broken(login), keys);
        assert_eq!(broken(|s| (login(s), name(s)).0), keys);
        assert_eq!(broken(|s| (login(s), password(s)).0), keys);
        assert!(broken(|s| (login(s), name(s), password(s)).0).is_empty());
        assert!(broken(password).is_empty(), "it is kept for a protocol with a login");
    }

    #[test]
    fn encryption_and_other_logins_than_plain_take_a_build_that_has_them() {
        let login = |s: &mut Settings, protocol: KafkaSecurity, mechanism| {
            s.kafka_sasl_username = "orders".to_owned();
            s.kafka_sasl_password = Some("hunter2".into());
            s.kafka_oauth_token_file = Some("/token".into());
            (s.kafka_security_protocol, s.kafka_sasl_mechanism) = (protocol, mechanism);
        };
        let protocol = unless_built(&["kafka_security_protocol"]);
        let mechanism = unless_built(&["kafka_sasl_mechanism"]);
        assert_eq!(broken(|s| s.kafka_security_protocol = Ssl), protocol);
        assert_eq!(broken(|s| login(s, SaslSsl, SaslMechanism::Plain)), protocol);
        for other in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512, SaslMechanism::OAuthBearer] {
            assert_eq!(broken(|s| login(s, SaslPlaintext, other)), mechanism);
        }
    }

    #[test]
    fn a_token_takes_the_place_of_name_and_password() {
        let oauth = |s: &mut Settings| {
            (s.kafka_security_protocol, s.kafka_sasl_mechanism) = (SaslPlaintext, SaslMechanism::OAuthBearer);
        };
        let built = unless_built(&["kafka_sasl_mechanism"]);
        let missing = [["kafka_sasl_mechanism", "kafka_oauth_token_file"].to_vec(), built.clone()].concat();
        assert_eq!(broken(oauth), missing);
        assert_eq!(broken(|s| (oauth(s), s.kafka_oauth_token_file = Some("/token".into())).0), built);
    }

    #[test]
    fn a_certificate_takes_its_key_and_an_encrypted_connection() {
        let certificate = |s: &mut Settings| s.kafka_client_cert_file = Some("/client.crt".into());
        let key = |s: &mut Settings| s.kafka_client_key_file = Some("/client.key".into());
        let encrypted = |s: &mut Settings| s.kafka_security_protocol = Ssl;
        let (built, both) =
            (unless_built(&["kafka_security_protocol"]), ["kafka_client_cert_file", "kafka_client_key_file"]);
        let half = [built.clone(), both.to_vec()].concat();
        assert_eq!(broken(|s| (encrypted(s), certificate(s)).0), half);
        assert_eq!(broken(|s| (encrypted(s), key(s)).0), half);
        assert_eq!(broken(|s| (encrypted(s), certificate(s), key(s)).0), built);
        let plain = ["kafka_client_cert_file", "kafka_security_protocol"];
        assert_eq!(broken(|s| (certificate(s), key(s)).0), plain);
        let password = |s: &mut Settings| s.kafka_client_key_password = Some("hunter2".into());
        assert_eq!(broken(password), ["kafka_client_key_password", "kafka_client_key_file"]);
    }

    #[test]
    fn a_static_member_has_a_name_that_kafka_takes() {
        let member = |name: &str| broken(|s| s.kafka_group_instance_id = name.to_owned());
        assert!(member("worker-0").is_empty() && member(&"x".repeat(249)).is_empty());
        for name in ["worker 0", "..", "arbeiter-ä", &"x".repeat(250)] {
            assert_eq!(member(name), ["kafka_group_instance_id"], "{name}");
        }
    }
}
