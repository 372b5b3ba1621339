//! The settings as an operator uses them: the order of the layers, the defaults, and the message of each mistake.
//!
//! Each test makes its own layers, so neither the machine's environment nor its files play a part.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

/// The layers of one test.
struct Layers {
    directory: TempDir,
    flags: Flags,
    env: Vec<(String, String)>,
}

impl Layers {
    fn new() -> Layers {
        Layers { directory: tempfile::tempdir().unwrap(), flags: Flags::default(), env: Vec::new() }
    }

    /// Writes the file of settings that is read where none is named.
    fn file(self, content: &str) -> Layers {
        self.write("orderstream.toml", content);
        self
    }

    fn env(mut self, name: &str, text: &str) -> Layers {
        self.env.push((name.to_owned(), text.to_owned()));
        self
    }

    fn flag(mut self, key: &str, text: &str) -> Layers {
        self.flags.given.insert(key.to_owned(), text.to_owned());
        self
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load::load(&self.flags, self.env.clone().into_iter(), Some(&self.path("orderstream.toml")))
    }

    /// The lines of what is wrong, with the directory of this test left out.
    fn problems(&self) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        let error = self.load().unwrap_err();
        error.problems().iter().map(|problem| problem.replace(&directory, "")).collect()
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let layers = Layers::new();
    let file = Source::File(layers.path("orderstream.toml"));
    let origin = |layers: &Layers| {
        let loaded = layers.load().unwrap();
        (loaded.settings.ack_wait_timeout.as_secs(), loaded.origin["ack_wait_timeout"].source.clone())
    };
    assert_eq!(origin(&layers), (30, Source::Default));
    let layers = layers.file("ack_wait_timeout = '1s'");
    assert_eq!(origin(&layers), (1, file));
    let layers = layers.env("ACK_WAIT_TIMEOUT", "2s");
    assert_eq!(origin(&layers), (2, Source::Env("ACK_WAIT_TIMEOUT".to_owned())));
    let layers = layers.flag("ack_wait_timeout", "3s");
    assert_eq!(origin(&layers), (3, Source::Flag("--ack-wait-timeout".to_owned())));
}

#[test]
fn an_empty_variable_or_flag_unsets_the_layers_below() {
    let file = "kafka_brokers = ['a:1', 'b:2']\nredis_addr = 'cache:6379'\npostgres_dsn_file = '/nowhere'\n\
                kafka_ca_file = '/ca'\nkafka_sasl_username = 'me'";
    let names = ["kafka_brokers", "redis_addr", "postgres_dsn", "kafka_ca_file", "kafka_sasl_username"];
    let by_env = |prefix: &str| {
        let layers = Layers::new().file(file).env("bind", "x");
        names.iter().fold(layers, |layers, name| layers.env(&format!("{prefix}{}", keys::variable(name)), ""))
    };
    let by_flag = names.iter().fold(Layers::new().file(file), |layers, name| layers.flag(name, ""));
    for layers in [by_env(""), by_env("ORDERSTREAM_"), by_flag] {
        let Settings { kafka_brokers, redis_addr, postgres_dsn, kafka_ca_file, kafka_sasl_username, .. } =
            layers.load().unwrap().settings;
        assert!(kafka_brokers.is_empty() && kafka_sasl_username.is_empty() && kafka_ca_file.is_none());
        assert!(redis_addr.is_none() && postgres_dsn.is_none());
    }
    for layers in [
        Layers::new().env("POSTGRES_DSN_FILE", ""),
        Layers::new().flag("postgres_dsn_file", ""),
        Layers::new().env("POSTGRES_DSN", "").env("POSTGRES_DSN_FILE", ""),
    ] {
        let loaded = layers.file("postgres_dsn = 'postgres://db/x'").load().unwrap();
        assert!(loaded.settings.postgres_dsn.is_none(), "{:?}", loaded.origin["postgres_dsn"]);
    }
    let beside = Layers::new().env("POSTGRES_DSN", "postgres://db/x").env("POSTGRES_DSN_FILE", "");
    assert!(beside.load().unwrap().settings.postgres_dsn.is_some());
}

#[test]
fn a_setting_that_cannot_be_unset_has_its_default_where_a_variable_or_flag_is_empty() {
    let file =
        || Layers::new().file("api_port = 9000\nworker_group = 'g'\nack_wait = false\ndata_dir = '/x'");
    let names = ["api_port", "worker_group", "ack_wait", "data_dir"];
    let by_env = names.iter().fold(file(), |layers, name| layers.env(&keys::variable(name), ""));
    let by_flag = names.iter().fold(file(), |layers, name| layers.flag(name, ""));
    for (layers, source) in [(by_env, "API_PORT"), (by_flag, "--api-port")] {
        let loaded = layers.load().unwrap();
        let Settings { api_port, worker_group, ack_wait, data_dir, .. } = &loaded.settings;
        assert_eq!((*api_port, worker_group.as_str(), *ack_wait), (8080, "order-workers", true));
        assert_eq!(data_dir, &PathBuf::from("./orderstream-data"));
        assert_eq!(
            loaded.origin["api_port"].source.to_string(),
            format!("default, because {source} is empty")
        );
    }
    let problem = Layers::new().file("api_port = ''").problems().remove(0);
    assert!(problem.starts_with(r#"api_port = "" (from orderstream.toml)"#), "{problem}");
}

#[test]
fn a_variable_with_the_prefix_wins_over_the_one_without() {
    let layers = Layers::new().env("ORDERSTREAM_ACK_WAIT_TIMEOUT", "1s").env("ACK_WAIT_TIMEOUT", "2s");
    let loaded = layers.load().unwrap();
    assert_eq!(loaded.settings.ack_wait_timeout, Duration::from_secs(1));
    assert_eq!(loaded.origin["ack_wait_timeout"].source.to_string(), "from ORDERSTREAM_ACK_WAIT_TIMEOUT");
    let layers = layers.flag("ack_wait_timeout", "3s");
    assert_eq!(layers.load().unwrap().settings.ack_wait_timeout, Duration::from_secs(3));
    let layers = Layers::new().env("KAFKA_BROKERS", "a:1").env("ORDERSTREAM_KAFKA_BROKERS", "");
    assert!(layers.load().unwrap().settings.kafka_brokers.is_empty());
    let layers = Layers::new();
    let path = layers.write("dsn", "postgres://from-the-file/x");
    for layers in [
        Layers::new().env("ORDERSTREAM_POSTGRES_DSN_FILE", &path).env("POSTGRES_DSN", "postgres://plain/x"),
        Layers::new().env("ORDERSTREAM_POSTGRES_DSN_FILE", &path).env("POSTGRES_DSN_FILE", "/nowhere"),
    ] {
        let dsn = layers.load().unwrap().settings.postgres_dsn.unwrap();
        assert_eq!(dsn.expose_secret(), "postgres://from-the-file/x");
    }
}

#[test]
fn a_variable_of_a_kubernetes_service_is_ignored_with_a_warning() {
    let layers = Layers::new().file("grpc_port = 9001").env("API_PORT", "tcp://10.0.0.1:8080");
    let layers = layers.env("GRPC_PORT", "tcp://10.0.0.2:50051").env("ORDERSTREAM_API_PORT", "9000");
    let loaded = layers.load().unwrap();
    assert_eq!((loaded.settings.api_port, loaded.settings.grpc_port), (9000, 9001));
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    let shown = loaded.to_string();
    assert!(shown.starts_with("# warning: API_PORT is ignored: Kubernetes"), "{shown}");
    assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
    let bad = Layers::new().env("API_PORT", "http").problems().remove(0);
    assert!(bad.contains("a port is a whole number"), "{bad}");
}

#[test]
fn the_warnings_of_names_and_of_values_are_reported_together() {
    let loaded = Layers::new().env("KAFKA_BROKER", "hunter2").env("ACK_WAIT_TIMEOUT", "10m").load().unwrap();
    let found = loaded.warnings.join("\n");
    assert!(
        found.contains("the nearest is KAFKA_BROKERS") && found.contains("ack_wait_timeout is"),
        "{found}"
    );
    assert!(!loaded.to_string().contains("hunter2"));
}

#[test]
fn a_named_file_is_read_instead_of_the_usual_one_and_the_flag_names_it_first() {
    let layers = Layers::new().file("api_port = 1");
    let (two, three) = (layers.write("two.toml", "api_port = 2"), layers.write("three.toml", "api_port = 3"));
    assert_eq!(layers.load().unwrap().settings.api_port, 1);
    let mut layers = layers.env("ORDERSTREAM_CONFIG", &two);
    assert_eq!(layers.load().unwrap().settings.api_port, 2);
    layers.flags.config = Some(three.into());
    assert_eq!(layers.load().unwrap().settings.api_port, 3);
}

#[test]
fn the_file_takes_texts_numbers_switches_and_lists() {
    let layers = Layers::new().file(
        "api_port = '9000'\nack_wait = false\nhttp_body_limit = 4096\nkafka_brokers = 'a:1,b:2'\nlog_format = 'json'",
    );
    let settings = layers.load().unwrap().settings;
    assert_eq!((settings.api_port, settings.ack_wait, settings.http_body_limit), (9000, false, 4096));
    assert_eq!(settings.kafka_brokers, ["a:1", "b:2"]);
    assert_eq!(settings.log_format, LogFormat::Json);
}

#[test]
fn a_secret_comes_from_a_file_in_every_layer() {
    let layers = Layers::new();
    let path = layers.write("dsn", "postgres://db/a b\r\n");
    let dsn = |layers: Layers| {
        let loaded = layers.load().unwrap();
        let source = loaded.origin["postgres_dsn"].source.clone();
        (loaded.settings.postgres_dsn.unwrap().expose_secret().to_owned(), source)
    };
    let expected = ("postgres://db/a b".to_owned(), Source::SecretFile(PathBuf::from(&path)));
    assert_eq!(
        dsn(Layers::new().file(&format!("postgres_dsn = ''\npostgres_dsn_file = '{path}'"))),
        expected
    );
    assert_eq!(dsn(Layers::new().env("POSTGRES_DSN_FILE", &path)), expected);
    assert_eq!(dsn(Layers::new().flag("postgres_dsn_file", &path)), expected);
    let over = Layers::new().env("POSTGRES_DSN_FILE", "/nowhere").flag("postgres_dsn", "direct");
    assert_eq!(dsn(over).0, "direct");
}

#[test]
fn a_secret_given_twice_in_one_layer_is_an_error() {
    let env = Layers::new().env("POSTGRES_DSN", "hunter2").env("POSTGRES_DSN_FILE", "/x");
    assert_eq!(env.problems(), ["POSTGRES_DSN and POSTGRES_DSN_FILE are both given; keep one of them"]);
    let flags = Layers::new().flag("redis_addr", "hunter2").flag("redis_addr_file", "/x");
    assert_eq!(flags.problems(), ["--redis-addr and --redis-addr-file are both given; keep one of them"]);
    let file = Layers::new().file("redis_addr = 'hunter2'\nredis_addr_file = '/x'");
    let from = "(from orderstream.toml)";
    assert_eq!(
        file.problems(),
        [format!("redis_addr {from} and redis_addr_file {from} are both given; keep one of them")]
    );
}

#[test]
fn a_secret_s_file_that_is_missing_or_empty_is_an_error() {
    let layers = Layers::new().env("POSTGRES_DSN_FILE", "/nowhere/dsn");
    let problem = layers.problems().remove(0);
    assert!(
        problem.starts_with("postgres_dsn (from the content of /nowhere/dsn): No such file"),
        "{problem}"
    );
    assert!(problem.ends_with("; name a file that can be read"), "{problem}");
    let layers = Layers::new();
    let empty = layers.write("empty", "\n");
    assert_eq!(
        layers.flag("postgres_dsn_file", &empty).problems(),
        [
            "postgres_dsn (from the content of empty): the file is empty; write the secret into it, or leave the \
          file's name out"
        ]
    );
}

#[test]
fn the_message_about_a_bad_value_names_its_key_its_source_and_the_fix() {
    for (layers, expected) in [
        (
            Layers::new().env("ACK_WAIT_TIMEOUT", "30"),
            r#"ack_wait_timeout = "30" (from ACK_WAIT_TIMEOUT): a duration needs a unit; write "30s" or "500ms""#,
        ),
        (
            Layers::new().flag("api_port", "http"),
            r#"api_port = "http" (from --api-port): a port is a whole number; write one from 0 to 65535"#,
        ),
        (
            Layers::new().file("ack_wait = 2"),
            r#"ack_wait = "2" (from orderstream.toml): a switch is on or off; write "on" or "off""#,
        ),
        (
            Layers::new().file("api_port = 80.5"),
            "api_port (from orderstream.toml): float does not fit here; write a whole number",
        ),
        (
            Layers::new().file("kafka_brokers = [9092]"),
            r#"kafka_brokers (from orderstream.toml): array does not fit here; write texts in brackets, as ["a:9092", "b:9092"]"#,
        ),
        (
            Layers::new().file("[postgres]\ndsn = 'hunter2'"),
            "postgres (from orderstream.toml): no such key; the nearest is postgres_dsn: write that, or remove the line",
        ),
        (
            Layers::new().file("ack_wait_timeot = '1s'"),
            "ack_wait_timeot (from orderstream.toml): no such key; the nearest is ack_wait_timeout: write that, or remove the line",
        ),
        (
            Layers::new().env("HTTP_BODY_LIMIT", "64MiB"),
            r#"http_body_limit = "64MiB" (from HTTP_BODY_LIMIT) and http_memory_budget = "64MiB" (default): the budget must hold the largest body and 8 KiB; lower the first or raise the second"#,
        ),
    ] {
        assert_eq!(layers.problems(), [expected]);
    }
}

#[test]
fn the_error_of_a_file_that_is_not_toml_or_missing_quotes_no_line() {
    let layers = Layers::new().file("bind = '::1'\npostgres_dsn = 'postgres://u:hunter2@db");
    let problem = layers.problems().remove(0);
    assert!(problem.starts_with("line 2 (from orderstream.toml) is not TOML: "), "{problem}");
    for content in
        ["postgres_dsn = hunter2", "postgres_dsn hunter2", "redis_addr = \"hunter2\\q\"", "x = 1 hunter2"]
    {
        let found = Layers::new().file(content).load().unwrap_err().to_string();
        assert!(!found.contains("hunter2"), "{found}");
    }
    let mut layers = Layers::new();
    layers.flags.config = Some(layers.path("mine.toml"));
    let problem = layers.problems().remove(0);
    assert!(problem.starts_with("the file of settings mine.toml cannot be read: "), "{problem}");
    assert!(problem.ends_with("name another with --config or ORDERSTREAM_CONFIG, or make it readable"));
}

#[test]
fn all_mistakes_are_reported_together_without_a_secret() {
    let layers = Layers::new()
        .file("postgres_dsn = 'hunter2'\nredis_addr = ['hunter2']\nhttp_body_limit = '2GB'\ncolour = 'red'")
        .env("POSTGRES_DSN", "hunter2")
        .env("LOG_FORMAT", "xml")
        .env("ORDERS_ACK_TOPIC", "orders.events")
        .flag("bind", "localhost");
    let error = layers.load().unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let about = |key: &str| error.problems().iter().filter(|problem| problem.contains(key)).count();
    for key in
        ["redis_addr (", "http_body_limit = ", "colour (", "log_format = ", "orders_ack_topic = ", "bind = "]
    {
        assert_eq!(about(key), 1, "{key}\n{error}");
    }
    // A limit that cannot be read is not compared with the budget as well.
    assert_eq!((error.problems().len(), about("http_memory_budget")), (6, 0), "{error}");
}

#[test]
fn the_default_file_holds_every_key_and_names_its_variable() {
    let content = include_str!("../../orderstream.default.toml");
    let table: toml::Table = content.parse().unwrap();
    assert_eq!(table.len(), KEYS.len());
    let mut rest = content;
    for key in KEYS {
        let (comment, behind) = rest.split_once(&format!("\n{} = ", key.name)).unwrap_or_else(|| {
            panic!("{} is missing in the default file, or not in the order of the table", key.name)
        });
        let comment = comment.rsplit("\n\n").next().unwrap();
        assert!(comment.starts_with(&format!("# {}", keys::variable(key.name))), "{}", key.name);
        assert!(key.file_name().is_none_or(|name| comment.contains(&name)), "{}", key.name);
        rest = behind;
    }
    // Each default is read as a file too, not only as what stands behind the others.
    assert!(Layers::new().file(content).load().is_ok());
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let settings = Settings::default();
    assert!(settings.postgres_dsn.is_none() && settings.redis_addr.is_none());
    assert!(settings.kafka_brokers.is_empty() && settings.ack_wait);
    assert_eq!(settings.data_dir, PathBuf::from("./orderstream-data"));
    assert_eq!(settings.bind.to_string(), "127.0.0.1");
    assert_eq!((settings.api_port, settings.grpc_port), (8080, 50051));
    assert_eq!(settings.worker_group, "order-workers");
    assert_eq!(settings.cache_key_prefix, "orderstream");
    assert_eq!(settings.orders_events_topic, "orders.events");
    assert_eq!(settings.orders_ack_topic, "orders.ack");
    assert_eq!((settings.orders_events_partitions.get(), settings.orders_ack_partitions.get()), (4, 12));
    assert_eq!((settings.kafka_replication, settings.ack_read), (0, AckRead::Own));
    assert_eq!(settings.kafka_security_protocol, KafkaSecurity::Plaintext);
    assert!(settings.kafka_sasl_password.is_none() && settings.kafka_ca_file.is_none());
    assert_eq!(settings.ack_wait_timeout, Duration::from_secs(30));
    assert_eq!(
        (settings.cache_ttl, settings.cache_timeout),
        (Duration::from_secs(60), Duration::from_millis(30))
    );
    assert_eq!(settings.max_connections.get(), 10_000);
    assert_eq!((settings.http_body_limit, settings.http_memory_budget), (1 << 20, 64 << 20));
}
