//! A broker that demands a login: whoever knows the password publishes and reads, and whoever does not is told
//! why nothing goes, without the password. The passwords are made here, and so are the certificates.

use orderstream::bus::Bus;
use orderstream::bus::kafka::{KafkaBus, Options};
use orderstream::config::KafkaSecurity::{self, SaslPlaintext};
use orderstream::config::SaslMechanism::{self, Plain};

use super::{orders, pass_one, worker};
use crate::bus_conformance::published;
use crate::support::kafka::Corner;
use crate::support::servers::{Private, Server};
use crate::support::wait::{until, within};

/// What the bus and the broker itself log in as.
const USER: &str = "orders";

fn password() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// A broker's settings for one way to log in, which it uses for itself, too.
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
    let mut options = Corner::options(brokers);
    (options.security.protocol, options.security.mechanism) = (protocol, mechanism);
    (options.security.username, options.security.password) = (USER.to_owned(), Some(password.into()));
    options
}

/// Publishes an event and reads it.
async fn use_it(options: Options) {
    let corner = Corner { options };
    let bus = corner.bus().await;
    let mut worker = worker(&*bus).await;
    pass_one(&*bus, &mut *worker).await;
    worker.close().await;
    bus.close().await;
}

/// Opens a bus that nobody lets in, and waits until it says why.
async fn is_refused(options: Options, why: &str) {
    let bus = KafkaBus::open(options.clone()).unwrap();
    let told = async || bus.check().await.unwrap_err().to_string();
    let reason = until(why, async || Some(told().await).filter(|reason| reason.contains(why))).await;
    let answer = within("a publish", published(&*bus, orders(1))).await.remove(0);
    let password = options.security.password.as_ref().map_or("-", secrecy::ExposeSecret::expose_secret);
    for text in [reason, answer.unwrap_err().to_string()] {
        assert!(!text.contains(password), "{text}");
    }
    within("a bus that closes", bus.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_in_whoever_knows_it_and_the_others_are_told_why_they_wait() {
    let (servers, secret) = (Private::new(), password());
    servers.up(Server::Kafka);
    let login = format!(
        "plain.PlainLoginModule required username={USER} password=\"{secret}\" user_{USER}=\"{secret}\""
    );
    let brokers = servers.kafka_with(&settings(SaslPlaintext, Plain, &login));
    use_it(options(&brokers, SaslPlaintext, Plain, &secret)).await;
    is_refused(options(&brokers, SaslPlaintext, Plain, &password()), "Authentication failed").await;
}

#[cfg(feature = "kafka-tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_password_is_proven_and_a_broker_that_is_not_trusted_is_not_used() {
    use orderstream::config::KafkaSecurity::{SaslSsl, Ssl};
    use orderstream::config::SaslMechanism::ScramSha256;

    let (servers, secret) = (Private::new(), password());
    let certificates = crate::support::certificates::Certificates::new();
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
    let (keys, trusted) = (certificates.keystore(), certificates.authority("ours"));
    let stores = [("keystore", &keys), ("truststore", &trusted)].map(|(name, file)| {
        let name = format!("listener.name.broker.ssl.{name}");
        format!("{name}.type=PEM\n{name}.location={}\n", file.display())
    });
    let settings = settings(SaslSsl, ScramSha256, &login) + &stores.concat();
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
