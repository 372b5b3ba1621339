//! The rules that a single value cannot show: those between settings, and the combinations that are legal but probably
//! not intended. A broken rule names its keys and the fix; the loader adds the values and their sources.
//!
//! Nothing here opens a file or a connection: the same settings always give the same result.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::check_kafka;
use super::kafka::{KafkaSecurity, SaslMechanism};
use super::rules::{Problem, Rules, is_topic};
use super::settings::Settings;

/// The bytes that a request in flight counts besides its body, in [`Settings::http_memory_budget`].
pub const REQUEST_OVERHEAD: usize = 8 * 1024;

/// Every rule that is broken.
pub(super) fn check(settings: &Settings) -> Vec<Problem> {
    let mut rules = Rules::default();
    check_durations(settings, &mut rules);
    check_http(settings, &mut rules);
    check_names(settings, &mut rules);
    check_kafka::check(settings, &mut rules);
    rules.broken()
}

/// Durations: a timeout must not be zero, and a wait not longer than a day.
fn check_durations(settings: &Settings, rules: &mut Rules) {
    let positive = r#"with no time nothing succeeds; write a duration above zero, as "30s""#;
    rules.holds(!settings.ack_wait_timeout.is_zero(), &["ack_wait_timeout"], positive);
    rules.holds(
        settings.republish_after.is_zero() || settings.republish_after >= Duration::from_secs(1),
        &["republish_after"],
        r#"each search scans the pending orders in the store; write "1s" or more, or "0s" for never"#,
    );
    rules.holds(!settings.processor_timeout.is_zero(), &["processor_timeout"], positive);
    rules.holds(!settings.history_retention.is_zero(), &["history_retention"], positive);
    rules.holds(!settings.postgres_connect_timeout.is_zero(), &["postgres_connect_timeout"], positive);
    rules.holds(!settings.postgres_statement_timeout.is_zero(), &["postgres_statement_timeout"], positive);
    rules.holds(!settings.cache_ttl.is_zero(), &["cache_ttl"], positive);
    rules.holds(
        !settings.cache_timeout.is_zero() && settings.cache_timeout <= Duration::from_secs(1),
        &["cache_timeout"],
        r#"a cache that is slower than the store is useless; write a duration above zero, at most "1s""#,
    );
    rules.holds(!settings.http_header_timeout.is_zero(), &["http_header_timeout"], positive);
    rules.holds(!settings.http_idle_timeout.is_zero(), &["http_idle_timeout"], positive);
    rules.holds(!settings.http_body_timeout.is_zero(), &["http_body_timeout"], positive);
    rules.holds(!settings.http_body_idle_timeout.is_zero(), &["http_body_idle_timeout"], positive);
    rules.holds(!settings.http_write_timeout.is_zero(), &["http_write_timeout"], positive);
    let short = r#"a wait is at most a day; write "24h" or less"#;
    let waits: [(Duration, &[&str]); 13] = [
        (settings.ack_wait_timeout, &["ack_wait_timeout"]),
        (settings.republish_after, &["republish_after"]),
        (settings.processor_timeout, &["processor_timeout"]),
        (settings.cache_ttl, &["cache_ttl"]),
        (settings.postgres_connect_timeout, &["postgres_connect_timeout"]),
        (settings.postgres_statement_timeout, &["postgres_statement_timeout"]),
        (settings.http_header_timeout, &["http_header_timeout"]),
        (settings.http_idle_timeout, &["http_idle_timeout"]),
        (settings.http_body_timeout, &["http_body_timeout"]),
        (settings.http_body_idle_timeout, &["http_body_idle_timeout"]),
        (settings.http_write_timeout, &["http_write_timeout"]),
        (settings.shutdown_delay, &["shutdown_delay"]),
        (settings.shutdown_timeout, &["shutdown_timeout"]),
    ];
    for (duration, key) in waits {
        rules.holds(duration <= Duration::from_hours(24), key, short);
    }
}

/// Sizes, ports, and the names that HTTP answers to.
fn check_http(settings: &Settings, rules: &mut Rules) {
    rules.holds(
        settings.http_body_limit > 0,
        &["http_body_limit"],
        r#"no order fits into an empty body; write a size above zero, as "1MiB""#,
    );
    rules.holds(
        settings.http_body_limit <= settings.http_memory_budget.saturating_sub(REQUEST_OVERHEAD),
        &["http_body_limit", "http_memory_budget"],
        "the budget must hold the largest body and 8 KiB; lower the first or raise the second",
    );
    rules.holds(
        settings.api_port != settings.grpc_port || settings.api_port == 0,
        &["api_port", "grpc_port"],
        "two listeners cannot share a port; change one of them",
    );

    rules.holds(
        settings.allowed_hosts.iter().all(|host| is_host_pattern(host)),
        &["allowed_hosts"],
        "a host is a name without scheme, port and path; write \"orders.example\", \"*.orders.example\" for those below \
         it, or \"*\" for every name",
    );
    rules.holds(
        settings.cors_allowed_origins.iter().all(|origin| origin == "*" || is_origin(origin)),
        &["cors_allowed_origins"],
        r#"an origin is a scheme, a host and maybe a port, without a path; write "https://shop.example", or "*""#,
    );
}

/// Names of topics, of keys in the cache and of the workers' group.
fn check_names(settings: &Settings, rules: &mut Rules) {
    // The name of the dead-letter topic has four letters more.
    let (events, acks) = (&settings.orders_events_topic, &settings.orders_ack_topic);
    let name = "letters, digits, '.', '_' and '-'";
    let fix = format!(r#"a topic's name consists of at most 245 {name}; write one such as "orders.events""#);
    rules.holds(is_topic(events, 245), &["orders_events_topic"], &fix);
    let fix = format!(r#"a topic's name consists of at most 249 {name}; write one such as "orders.ack""#);
    rules.holds(is_topic(acks, 249), &["orders_ack_topic"], &fix);
    rules.holds(
        !collide(events, acks) && !collide(&format!("{events}.dlq"), acks),
        &["orders_events_topic", "orders_ack_topic"],
        "events, ACKs and dead letters (the first with .dlq) need topics that differ in more than '.' and '_'; \
         rename one",
    );
    rules.holds(
        (1..=64).contains(&settings.cache_key_prefix.len())
            && settings.cache_key_prefix.bytes().all(|byte| byte.is_ascii_graphic()),
        &["cache_key_prefix"],
        r#"keys begin with it: write 1 to 64 printable ASCII characters without spaces, as "orderstream""#,
    );
    rules.holds(
        !settings.worker_group.is_empty(),
        &["worker_group"],
        r#"the workers need a group; write a name, as "order-workers""#,
    );
}

/// Whether it is a name, a pattern for the names below one, or the pattern for all.
fn is_host_pattern(host: &str) -> bool {
    let name = host.strip_prefix('*').unwrap_or(host);
    host == "*" || is_host_name(name.strip_prefix('.').unwrap_or(if name == host { name } else { "" }))
}

fn is_host_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.bytes().all(legal) && name.split('.').all(|label| !label.is_empty())
}

/// Whether a browser can send it in `Origin`.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let is_address = || {
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    };
    let is_scheme =
        scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    is_scheme && !scheme.is_empty() && is_port && (is_host_name(host) || is_address())
}

/// Whether Kafka rejects the second of two topics, because both have the same name in its metrics.
fn collide(one: &str, other: &str) -> bool {
    one.replace('_', ".") == other.replace('_', ".")
}

impl Settings {
    /// Combinations that are legal but probably not intended, a line each, for the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |applies: bool, text: String| {
            if applies {
                warnings.push(text);
            }
        };
        let (wait, stop) = (self.ack_wait_timeout, self.shutdown_timeout);
        warn(
            self.ack_wait && wait > Duration::from_secs(5 * 60),
            format!(
                "ack_wait_timeout is {wait:?}: callers and proxies seldom hold a request that long; \
                 write \"5m\" or less, and let them read the order after a 202"
            ),
        );
        warn(
            self.kafka_security_protocol == KafkaSecurity::SaslPlaintext
                && self.kafka_sasl_mechanism == SaslMechanism::Plain,
            "kafka_security_protocol is sasl_plaintext with PLAIN: the password crosses the network unencrypted; \
             write sasl_ssl"
                .to_owned(),
        );
        warn(
            self.ack_wait && stop < wait,
            format!(
                "shutdown_timeout ({stop:?}) is shorter than ack_wait_timeout ({wait:?}): a stop may cut off \
                 callers who still wait; raise the first or lower the second"
            ),
        );
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of the rules that the defaults break after a change.
    fn broken(change: impl FnOnce(&mut Settings)) -> Vec<&'static str> {
        let mut settings = Settings::default();
        change(&mut settings);
        check(&settings).iter().flat_map(|problem| problem.keys).copied().collect()
    }

    #[test]
    fn the_defaults_break_no_rule_and_raise_no_warning() {
        assert!(broken(|_| ()).is_empty());
        assert!(Settings::default().warnings().is_empty());
    }

    #[test]
    fn a_timeout_of_zero_is_rejected() {
        assert_eq!(broken(|s| s.ack_wait_timeout = Duration::ZERO), ["ack_wait_timeout"]);
        assert_eq!(broken(|s| s.cache_ttl = Duration::ZERO), ["cache_ttl"]);
        assert_eq!(broken(|s| s.cache_timeout = Duration::ZERO), ["cache_timeout"]);
        assert_eq!(broken(|s| s.http_header_timeout = Duration::ZERO), ["http_header_timeout"]);
        assert_eq!(broken(|s| s.http_idle_timeout = Duration::ZERO), ["http_idle_timeout"]);
        assert_eq!(broken(|s| s.http_body_timeout = Duration::ZERO), ["http_body_timeout"]);
        assert_eq!(broken(|s| s.http_body_idle_timeout = Duration::ZERO), ["http_body_idle_timeout"]);
        assert_eq!(broken(|s| s.http_write_timeout = Duration::ZERO), ["http_write_timeout"]);
    }

    #[test]
    fn the_cache_timeout_is_a_second_at_most() {
        assert!(broken(|s| s.cache_timeout = Duration::from_secs(1)).is_empty());
        assert_eq!(broken(|s| s.cache_timeout = Duration::from_millis(1001)), ["cache_timeout"]);
    }

    #[test]
    fn the_budget_holds_the_largest_body_and_its_overhead() {
        let keys = ["http_body_limit", "http_memory_budget"];
        assert!(broken(|s| s.http_memory_budget = s.http_body_limit + REQUEST_OVERHEAD).is_empty());
        assert_eq!(broken(|s| s.http_memory_budget = s.http_body_limit + REQUEST_OVERHEAD - 1), keys);
        assert_eq!(broken(|s| s.http_memory_budget = 0), keys);
        assert_eq!(broken(|s| s.http_body_limit = 0), ["http_body_limit"]);
    }

    #[test]
    fn two_listeners_share_no_port_unless_each_takes_a_free_one() {
        assert_eq!(broken(|s| s.grpc_port = s.api_port), ["api_port", "grpc_port"]);
        assert!(broken(|s| (s.api_port, s.grpc_port) = (0, 0)).is_empty());
    }

    #[test]
    fn hosts_are_names_and_origins_have_a_scheme_and_no_path() {
        let hosts = |host: &str| broken(|s| s.allowed_hosts = vec!["a".to_owned(), host.to_owned()]);
        for host in ["orders.example", "*.example", ".example", "*", "a_b-c"] {
            assert!(hosts(host).is_empty(), "{host}");
        }
        for host in ["a:80", "http://a", "a/", "*a", "*.", ".", "a..b", "a.", "**.a", "ä.example", "a b"] {
            assert_eq!(hosts(host), ["allowed_hosts"], "{host}");
        }
        let origins = |origin: &str| broken(|s| s.cors_allowed_origins = vec![origin.to_owned()]);
        for origin in [
            "https://shop.example",
            "http://localhost:3000",
            "http://[::1]:80",
            "http://[::1]",
            "*",
            "app://x",
        ] {
            assert!(origins(origin).is_empty(), "{origin}");
        }
        for origin in [
            "shop.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a:x",
            "https://a:",
            "null",
            "://a",
            "https://*.a",
        ] {
            assert_eq!(origins(origin), ["cors_allowed_origins"], "{origin}");
        }
    }

    #[test]
    fn a_topic_needs_a_legal_name_of_its_own() {
        for name in ["", ".", "..", "orders events", "bestellungen/ä", &"x".repeat(246)] {
            let keys = broken(|s| s.orders_events_topic = name.to_owned());
            assert_eq!(keys, ["orders_events_topic"], "{name:?}");
        }
        assert!(broken(|s| s.orders_ack_topic = "x".repeat(249)).is_empty());
        assert_eq!(broken(|s| s.orders_ack_topic = "x".repeat(250)), ["orders_ack_topic"]);
        for name in ["orders.events", "orders_events", "orders.events.dlq"] {
            let keys = broken(|s| s.orders_ack_topic = name.to_owned());
            assert_eq!(keys, ["orders_events_topic", "orders_ack_topic"], "{name}");
        }
        assert_eq!(broken(|s| s.worker_group.clear()), ["worker_group"]);
        for prefix in [String::new(), "a b".to_owned(), "\u{e9}".to_owned(), "x".repeat(65)] {
            assert_eq!(broken(|s| s.cache_key_prefix = prefix.clone()), ["cache_key_prefix"]);
        }
    }

    #[test]
    fn a_wait_is_at_most_a_day_and_a_retention_may_be_longer() {
        let longer = Duration::from_secs(24 * 60 * 60 + 1);
        assert_eq!(broken(|s| s.postgres_statement_timeout = longer), ["postgres_statement_timeout"]);
        assert_eq!(broken(|s| s.shutdown_delay = longer), ["shutdown_delay"]);
        assert!(broken(|s| s.history_retention = longer).is_empty());
    }

    #[test]
    fn a_risky_combination_is_legal_and_warned_of() {
        let mut settings = Settings { ack_wait_timeout: Duration::from_secs(301), ..Settings::default() };
        assert!(check(&settings).is_empty());
        let warnings = settings.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("ack_wait_timeout is 301s") && warnings[1].contains("shutdown_timeout")
        );
        settings.ack_wait = false;
        assert!(settings.warnings().is_empty());
    }
}
