//! Topics that exist already are used unchanged. A setting that can lose records or block a topic is logged once, with
//! the remedy; where the settings cannot be read, the service works without that check.

use super::{creation, posting};
use crate::clients::answers::order_id;
use crate::harness::cluster::Cluster;
use crate::harness::servers::Private;
use crate::harness::system::outcome;
use crate::harness::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_settings_that_lose_records_are_logged_once() {
    let mut cluster = Cluster::setup().await.start(0, 0).await;
    let (events, dead_letters) =
        (cluster.kafka.options.events_topic.clone(), cluster.kafka.dead_letter_topic());
    let hour = ("retention.ms", "3600000");
    cluster.kafka.create_with(&events, 4, &[hour, ("cleanup.policy", "compact,delete")]).await;
    cluster.kafka.create_with(&dead_letters, 1, &[("min.insync.replicas", "2")]).await;
    cluster.start_api().await;
    cluster.start_worker().await;
    cluster.ready().await;
    let problems = [
        format!("topic {events} has retention.ms=3600000: "),
        format!("topic {events} has cleanup.policy=compact,delete: "),
        format!("topic {events} has max.message.bytes=1048588: "),
        format!("topic {dead_letters} has retention.ms=604800000: "),
        format!("topic {dead_letters} has max.message.bytes=1048588: "),
        format!("topic {dead_letters} has min.insync.replicas=2: "),
    ];
    let logged = |verb: &str, text: &str| cluster.logged(verb, text);
    for problem in &problems {
        until(problem, async || (logged("api", problem) > 0 && logged("worker", problem) > 0).then_some(()))
            .await;
    }
    let answer = posting(&cluster.clients()[0], creation(1)).await.unwrap();
    assert_eq!(outcome(&answer), (201, "created".to_owned()));
    assert_eq!(cluster.kafka.member_clients(), ["orderstream-worker"]);
    cluster.stop().await;
    for problem in &problems {
        assert_eq!((cluster.logged("api", problem), cluster.logged("worker", problem)), (1, 1), "{problem}");
    }
    assert_eq!(
        cluster.logged("api", "topic_settings: topic "),
        problems.len(),
        "the topic of the ACKs was created by the service"
    );
    cluster.finish(&[(order_id(&answer), "created")], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_without_permission_to_read_settings_works() {
    let setup = Cluster::setup().await;
    let (servers, secret) = (Private::new(), uuid::Uuid::now_v7().simple().to_string());
    let brokers = servers.kafka_with(&format!(
        "listener.security.protocol.map=BROKER:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         sasl.mechanism.inter.broker.protocol=PLAIN\n\
         listener.name.broker.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.broker.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=broker password=\"{secret}\" user_broker=\"{secret}\" user_orders=\"{secret}\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:broker;User:ANONYMOUS\n"
    ));
    let setup =
        setup.kafka(&brokers).set("LOG_LEVEL", "info").set("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext");
    let setup = setup.set("KAFKA_SASL_USERNAME", "orders").set("KAFKA_SASL_PASSWORD", &secret);
    let mut cluster = setup.start(0, 0).await;
    let security = &mut cluster.kafka.options.security;
    security.protocol = orderstream::config::KafkaSecurity::SaslPlaintext;
    (security.username, security.password) = ("broker".to_owned(), Some(secret.as_str().into()));
    let folder = tempfile::tempdir().unwrap();
    let login = folder.path().join("login");
    let properties = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required username=broker password=\"{secret}\";\n"
    );
    std::fs::write(&login, properties).unwrap();
    let login = login.to_str().unwrap();
    let allow = [
        "--bootstrap-server",
        &brokers,
        "--command-config",
        login,
        "--add",
        "--allow-principal",
        "User:orders",
    ];
    for rights in
        ["--topic * --operation Read --operation Write --operation Describe", "--group * --operation Read"]
    {
        let rights: Vec<&str> = rights.split(' ').collect();
        servers.tool(&[&["org.apache.kafka.tools.AclCommand"], &allow[..], &rights].concat());
    }
    let options = cluster.kafka.options.clone();
    for (topic, partitions) in
        [(&options.events_topic, 4), (&options.ack_topic, 12), (&cluster.kafka.dead_letter_topic(), 1)]
    {
        cluster.kafka.create(topic, partitions).await;
    }
    cluster.start_api().await;
    cluster.start_worker().await;
    cluster.ready().await;
    const NOT_READ: &str = "settings of topics cannot be read and are not checked";
    until("a log line about the settings", async || (cluster.logged("api", NOT_READ) > 0).then_some(()))
        .await;
    let answer = posting(&cluster.clients()[0], creation(1)).await.unwrap();
    assert_eq!(outcome(&answer), (201, "created".to_owned()));
    cluster.stop().await;
    assert_eq!(cluster.logged("api", NOT_READ), 1);
    cluster.finish(&[(order_id(&answer), "created")], 0).await;
}
