//! A broker that demands a login: a client with the right password, certificate or token publishes and reads; the check
//! of any other client names the reason, without the password. The tests make the passwords and certificates.

#[cfg(feature = "kafka-tls")]
use std::path::PathBuf;

use orderstream::bus::Bus;
#[cfg(feature = "kafka-tls")]
use orderstream::bus::kafka::ClientCertificate;
use orderstream::bus::kafka::{KafkaBus, Options};
use orderstream::config::KafkaSecurity::{self, SaslPlaintext};
use orderstream::config::SaslMechanism::{self, Plain};

use super::{orders, pass_one, worker};
use crate::bus::conformance::published;
#[cfg(feature = "kafka-tls")]
use crate::harness::certificates::Certificates;
use crate::harness::kafka::TestTopics;
#[cfg(feature = "kafka-tls")]
use crate::harness::kafka::ready;
use crate::harness::servers::Private;
#[cfg(feature = "kafka-tls")]
use crate::harness::servers::Server;
use crate::harness::wait::{until, within};

/// The user name of the bus and of the broker itself.
const USER: &str = "orders";

fn password() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// A broker's settings for one way to log in, which the broker uses for itself, too.
fn settings(protocol: KafkaSecurity, mechanism: SaslMechanism, login: &str) -> String {
    let (protocol, name) = (protocol.as_str().to_uppercase(), mechanism.as_str());
    let listener = format!("listener.name.broker.{}", name.to_lowercase());
    format!(
        "listener.security.protocol.map=BROKER:{protocol},CONTROLLER:PLAINTEXT\n\
         sasl.mechanism.inter.broker.protocol={name}\n\
         listener.name.broker.sasl.enabled.mechanisms={name}\n\
         {listener}.sasl.jaas.config=org.apache.kafka.common.security.{login};\n"
    )
}

fn options(brokers: &str, protocol: KafkaSecurity, mechanism: SaslMechanism, password: &str) -> Options {
    let mut options = TestTopics::options(brokers);
    (options.security.protocol, options.security.mechanism) = (protocol, mechanism);
    (options.security.username, options.security.password) = (USER.to_owned(), Some(password.into()));
    options
}

/// Publishes an event and reads it.
async fn use_it(options: Options) {
    let test_topics = TestTopics::with(options);
    let bus = test_topics.bus().await;
    let mut worker = worker(&*bus).await;
    pass_one(&*bus, &mut *worker).await;
    worker.close().await;
    bus.close().await;
}

/// Opens a bus that the broker does not admit, and waits until its check names the reason.
async fn is_refused(options: Options, why: &str) {
    let bus = KafkaBus::open(options.clone()).unwrap();
    let error = async || bus.check().await.unwrap_err().to_string();
    let reason = until(why, async || Some(error().await).filter(|reason| reason.contains(why))).await;
    let answer = within("a publish", published(&*bus, orders(1))).await.remove(0);
    let password = options.security.password.as_ref().map_or("-", secrecy::ExposeSecret::expose_secret);
    for text in [reason, answer.unwrap_err().to_string()] {
        assert!(!text.contains(password), "{text}");
    }
    within("a bus that closes", bus.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_the_password_is_admitted_and_others_see_the_reason() {
    let (servers, secret) = (Private::new(), password());
    let login = format!(
        "plain.PlainLoginModule required username={USER} password=\"{secret}\" user_{USER}=\"{secret}\""
    );
    let brokers = servers.kafka_with(&settings(SaslPlaintext, Plain, &login));
    use_it(options(&brokers, SaslPlaintext, Plain, &secret)).await;
    is_refused(options(&brokers, SaslPlaintext, Plain, &password()), "Authentication failed").await;
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_proven_over_tls_only_to_a_trusted_broker() {
    use orderstream::config::KafkaSecurity::{SaslSsl, Ssl};
    use orderstream::config::SaslMechanism::ScramSha256;

    let (servers, secret) = (Private::new(), password());
    let certificates = Certificates::new();
    let brokers = servers.up(Server::Kafka);
    let credential = format!("SCRAM-SHA-256=[password={secret}]");
    servers.tool(&[
        "kafka.admin.ConfigCommand",
        "--bootstrap-server",
        &brokers,
        "--alter",
        "--entity-type",
        "users",
        "--entity-name",
        USER,
        "--add-config",
        &credential,
    ]);
    let login = format!("scram.ScramLoginModule required username={USER} password=\"{secret}\"");
    let settings = settings(SaslSsl, ScramSha256, &login) + &stores(&certificates);
    assert_eq!(servers.kafka_with(&settings), brokers);

    let with = |protocol, password: &str, authority| {
        let mut options = options(&brokers, protocol, ScramSha256, password);
        options.security.ca_file = Some(certificates.authority(authority));
        options
    };
    use_it(with(SaslSsl, &secret, "ours")).await;
    is_refused(with(SaslSsl, &password(), "ours"), "Authentication failed").await;
    is_refused(with(SaslSsl, &secret, "others"), "certificate verify failed").await;
    is_refused(with(Ssl, &secret, "ours"), "no Kafka broker answers").await;
}

/// A broker's settings for its own certificate, and for the authority that it trusts.
#[cfg(feature = "kafka-tls")]
fn stores(certificates: &Certificates) -> String {
    let (keys, trusted) = (certificates.keystore(), certificates.authority("ours"));
    let stores = [("keystore", &keys), ("truststore", &trusted)].map(|(name, file)| {
        let name = format!("listener.name.broker.ssl.{name}");
        format!("{name}.type=PEM\n{name}.location={}\n", file.display())
    });
    stores.concat()
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_demands_a_certificate_admits_a_client_that_has_one() {
    use orderstream::config::KafkaSecurity::Ssl;

    let (servers, certificates, secret) = (Private::new(), Certificates::new(), password());
    let demands = "listener.security.protocol.map=BROKER:SSL,CONTROLLER:PLAINTEXT\n\
                   listener.name.broker.ssl.client.auth=required\n";
    let brokers = servers.kafka_with(&(demands.to_owned() + &stores(&certificates)));
    let [certificate, key, encrypted] = certificates.client(&secret);
    let with = |certificate: Option<(&PathBuf, &PathBuf, Option<&str>)>| {
        let mut options = TestTopics::options(&brokers);
        (options.security.protocol, options.security.ca_file) = (Ssl, Some(certificates.authority("ours")));
        options.security.client_certificate =
            certificate.map(|(file, key_file, password)| ClientCertificate {
                file: file.clone(),
                key_file: key_file.clone(),
                key_password: password.map(Into::into),
            });
        options
    };
    use_it(with(Some((&certificate, &key, None)))).await;
    use_it(with(Some((&certificate, &encrypted, Some(&secret))))).await;
    is_refused(with(None), "no Kafka broker answers").await;
    let [stranger, strange_key] = certificates.own_authority("others");
    is_refused(with(Some((&stranger, &strange_key, None))), "no Kafka broker answers").await;
    let wrong = password();
    let opened = KafkaBus::open(with(Some((&certificate, &encrypted, Some(&wrong))))).map(drop);
    let said = opened.unwrap_err().to_string();
    assert!(said.contains("key") && !said.contains(&wrong), "{said}");
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_valid_token_is_admitted_after_its_renewal() {
    use orderstream::config::SaslMechanism::OAuthBearer;

    let servers = Private::new();
    let login = "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\"";
    let brokers = servers.kafka_with(&settings(SaslPlaintext, OAuthBearer, login));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let with = || {
        let mut options = TestTopics::options(&brokers);
        (options.security.protocol, options.security.mechanism) = (SaslPlaintext, OAuthBearer);
        options.security.token_file = Some(file.clone());
        options
    };
    let test_topics = TestTopics::with(with());
    let (events, acks) = (&test_topics.options.events_topic, &test_topics.options.ack_topic);

    // Without a token, and then with one that has expired, the check names that; the bus works when the token is
    // renewed.
    let bus = KafkaBus::open(test_topics.options.clone()).unwrap();
    unavailable_because(&bus, "cannot be used: No such file").await;
    std::fs::write(&file, token(-60)).unwrap();
    unavailable_because(&bus, "unexpired token").await;
    std::fs::write(&file, token(60)).unwrap();
    unavailable_because(
        &bus,
        &format!("topic {events} cannot be created: that requires a login other than OAUTHBEARER"),
    )
    .await;
    for topic in [events, acks, &test_topics.dead_letter_topic()] {
        test_topics.create(topic, 4).await;
    }
    ready(&*bus).await;
    let mut worker = worker(&*bus).await;
    pass_one(&*bus, &mut *worker).await;
    assert_eq!(bus.backlog().await.map(|count| count.is_some()), Ok(true));
    worker.close().await;
    bus.close().await;
}

/// Waits until the check of a bus fails for that reason.
#[cfg(feature = "kafka-tls")]
async fn unavailable_because(bus: &KafkaBus, why: &str) {
    until(why, async || {
        let said = bus.check().await.err()?.to_string();
        said.contains(why).then_some(())
    })
    .await;
}

/// A token without a signature that expires in so many seconds.
#[cfg(feature = "kafka-tls")]
fn token(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = format!(r#"{{"sub":"orders","iat":{},"exp":{}}}"#, now - 120, now + seconds);
    format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(&claims))
}

/// In base64url without padding.
#[cfg(feature = "kafka-tls")]
fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = text.as_bytes().chunks(3).flat_map(|bytes| {
        let bits =
            bytes.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - bytes.len()));
        (0..=bytes.len()).map(move |at| DIGITS[bits >> (18 - 6 * at) & 63] as char)
    });
    digits.collect()
}
