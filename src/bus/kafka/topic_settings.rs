//! The settings of the topics: those that a topic gets when it is created, and a check of topics that exist already. A
//! setting that can lose records or stop a topic is reported once, with the remedy, and never changed, because other
//! services may rely on it.
//!
//! Reading settings requires an ACL of its own in Kafka (`DescribeConfigs`). Without it the check is skipped.

use std::collections::HashMap;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};

use super::client::{ANSWER_TIMEOUT, NO_TOKEN, Options, QueryContext};

/// The least `max.message.bytes` of a topic: that limit applies to batches, and the client's grow to 1,000,000 bytes.
const LARGEST_BATCH: usize = 1 << 20;

/// How long events are kept, in milliseconds: seven days.
const EVENTS_KEPT: i64 = 7 * 24 * 60 * 60 * 1000;

/// How long ACKs are kept, in milliseconds: an hour. The ACK listener reads them at once, or never.
const ACKS_KEPT: i64 = 60 * 60 * 1000;

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Events,
    Acks,
    DeadLetters,
}

/// A topic's name, purpose, and the largest record that it must accept.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) purpose: Purpose,
    pub(super) largest_record: usize,
}

impl Topic {
    /// The settings that it gets when it is created with so many replicas.
    pub(super) fn settings(&self, replicas: usize) -> Vec<(&'static str, String)> {
        let largest = self.largest_record.max(LARGEST_BATCH).to_string();
        let mut settings = vec![("max.message.bytes", largest), ("cleanup.policy", "delete".to_owned())];
        if replicas >= 3 {
            settings.push(("min.insync.replicas", "2".to_owned()));
        }
        match self.purpose {
            Purpose::Events => settings.push(("retention.ms", EVENTS_KEPT.to_string())),
            // Kafka drops closed segments only; by default a segment stays open for a week.
            Purpose::Acks => {
                settings.extend(["retention.ms", "segment.ms"].map(|it| (it, ACKS_KEPT.to_string())))
            }
            Purpose::DeadLetters => {
                settings.extend(["retention.ms", "retention.bytes"].map(|it| (it, "-1".to_owned())));
            }
        }
        settings
    }

    /// The problems of the topic's settings, each a line with the remedy.
    fn problems(&self, replicas: usize, found: &HashMap<&str, &str>) -> Vec<String> {
        let number = |name: &str| found.get(name).and_then(|value| value.parse::<i64>().ok());
        let mut problems = Vec::new();
        let mut problem = |setting: &str, why: String| {
            let value = found.get(setting).copied().unwrap_or_default();
            problems.push(format!("topic {} has {setting}={value}: {why}", self.name));
        };
        let largest = match self.purpose {
            Purpose::Acks => LARGEST_BATCH,
            Purpose::Events | Purpose::DeadLetters => self.largest_record.max(LARGEST_BATCH),
        };
        let largest = i64::try_from(largest).unwrap_or(i64::MAX);
        if number("max.message.bytes").is_some_and(|limit| limit < largest) {
            let lost = match self.purpose {
                Purpose::Events => "an order whose event is larger is marked failed",
                Purpose::Acks => "larger batches of ACKs are lost, and callers wait longer",
                Purpose::DeadLetters => "a larger dead letter is cut",
            };
            let or = if self.purpose == Purpose::Acks { "" } else { ", or lower HTTP_BODY_LIMIT" };
            problem("max.message.bytes", format!("{lost}; set it to {largest} or more{or}"));
        }
        let retention = number("retention.ms");
        match self.purpose {
            Purpose::Events if retention.is_some_and(|it| (0..EVENTS_KEPT).contains(&it)) => {
                let why =
                    "events that no worker has read are dropped after that, and their orders stay pending";
                problem("retention.ms", format!("{why}; set it to {EVENTS_KEPT} (7 days) or more, or to -1"));
            }
            Purpose::DeadLetters => {
                for setting in ["retention.ms", "retention.bytes"] {
                    if number(setting).is_some_and(|it| it >= 0) {
                        problem(
                            setting,
                            "dead letters are dropped before an operator has seen them; set it to -1"
                                .to_owned(),
                        );
                    }
                }
            }
            Purpose::Events | Purpose::Acks => {}
        }
        let compacts =
            found.get("cleanup.policy").is_some_and(|it| it.split(',').any(|it| it.trim() == "compact"));
        if compacts && self.purpose != Purpose::Acks {
            let why = "compaction drops all records of an order but the last, even unread ones";
            problem("cleanup.policy", format!("{why}; set it to delete"));
        }
        let replicas = i64::try_from(replicas).unwrap_or(i64::MAX);
        if number("min.insync.replicas").is_some_and(|least| least > replicas) {
            let why = format!("a partition has {replicas} replicas, and brokers may refuse each record");
            problem("min.insync.replicas", format!("{why}; set it to {replicas} or less, or add replicas"));
        }
        problems
    }
}

/// Topics that existed already, with their replicas, and whether their settings were checked.
#[derive(Default)]
pub(super) struct Check {
    topics: Vec<(Topic, usize)>,
    done: bool,
}

impl Check {
    /// Adds a topic that existed before this process.
    pub(super) fn found(&mut self, topic: &Topic, replicas: usize) {
        if !self.done && self.topics.iter().all(|(known, _)| known.name != topic.name) {
            self.topics.push((topic.clone(), replicas));
        }
    }

    /// Checks the settings of the topics that were found, once. Blocks; where no broker answers, the next call checks
    /// them.
    pub(super) fn run(&mut self, options: &Options) {
        if self.done || !options.make_topics || self.topics.is_empty() {
            return;
        }
        if options.security.has_token() {
            tracing::info!("the settings of the topics are not checked: {NO_TOKEN}");
            self.done = true;
            return;
        }
        match self.problems(options) {
            Ok(problems) => {
                problems.iter().for_each(|problem| tracing::warn!("{problem}"));
                self.done = true;
            }
            Err(error) => tracing::debug!(error, "the settings of the topics were not read"),
        }
    }

    fn problems(&self, options: &Options) -> Result<Vec<String>, String> {
        // A client for this call alone: an admin client does not serve its log, so lines would pile up in it.
        let admin: AdminClient<QueryContext> =
            options.client().create_with_context(QueryContext).map_err(|error| error.to_string())?;
        let names: Vec<_> =
            self.topics.iter().map(|(topic, _)| ResourceSpecifier::Topic(&topic.name)).collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        let answers =
            runtime.block_on(admin.describe_configs(&names, &options)).map_err(|error| error.to_string())?;
        // The client does not report why the broker refuses: the settings are empty then.
        let mut problems = Vec::new();
        let (read, unread): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .map(Result::ok)
            .partition(|answer| answer.as_ref().is_some_and(|resource| !resource.entries.is_empty()));
        if !unread.is_empty() {
            tracing::info!(
                topics = unread.len(),
                "settings of topics cannot be read and are not checked; allow the operation DescribeConfigs to have \
                 them checked"
            );
        }
        for resource in read.into_iter().flatten() {
            let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
            let Some((topic, replicas)) = self.topics.iter().find(|(topic, _)| topic.name == *name) else {
                continue;
            };
            let values =
                resource.entries.iter().filter_map(|it| Some((it.name.as_str(), it.value.as_deref()?)));
            problems.extend(topic.problems(*replicas, &values.collect()));
        }
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(purpose: Purpose) -> Topic {
        Topic { name: "t".to_owned(), purpose, largest_record: 3_000_000 }
    }

    /// The problems of a topic as it is created, with changed settings.
    fn problems_with(purpose: Purpose, change: &[(&'static str, &'static str)]) -> Vec<String> {
        let topic = topic(purpose);
        let made = topic.settings(3);
        let mut found: HashMap<&str, &str> =
            made.iter().map(|(name, value)| (*name, value.as_str())).collect();
        found.extend(change.iter().copied());
        topic.problems(3, &found)
    }

    #[test]
    fn a_topic_as_it_is_created_has_no_problem() {
        for purpose in [Purpose::Events, Purpose::Acks, Purpose::DeadLetters] {
            assert_eq!(problems_with(purpose, &[]), [""; 0], "{purpose:?}");
        }
        assert_eq!(
            topic(Purpose::Events).problems(1, &HashMap::new()),
            [""; 0],
            "a broker that names no setting"
        );
    }

    #[test]
    fn each_setting_that_loses_records_is_named_with_its_value_and_the_remedy() {
        use Purpose::{Acks, DeadLetters, Events};
        let cases = [
            (Events, ("max.message.bytes", "1048588"), "3000000 or more, or lower HTTP_BODY_LIMIT"),
            (
                DeadLetters,
                ("max.message.bytes", "1048588"),
                "is cut; set it to 3000000 or more, or lower HTTP_BODY_LIMIT",
            ),
            (Acks, ("max.message.bytes", "1000"), "set it to 1048576 or more"),
            (Events, ("retention.ms", "604799999"), "set it to 604800000 (7 days) or more, or to -1"),
            (DeadLetters, ("retention.ms", "604800000"), "set it to -1"),
            (DeadLetters, ("retention.bytes", "1073741824"), "set it to -1"),
            (Events, ("cleanup.policy", "compact"), "set it to delete"),
            (DeadLetters, ("cleanup.policy", "delete, compact"), "set it to delete"),
            (Events, ("min.insync.replicas", "4"), "set it to 3 or less, or add replicas"),
            (Acks, ("min.insync.replicas", "4"), "set it to 3 or less, or add replicas"),
        ];
        for (purpose, (setting, value), remedy) in cases {
            let problems = problems_with(purpose, &[(setting, value)]);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(&format!("topic t has {setting}={value}: ")), "{problems:?}");
            assert!(problems[0].ends_with(remedy), "{problems:?}");
        }
    }

    #[test]
    fn a_setting_that_loses_nothing_is_not_a_problem() {
        use Purpose::{Acks, DeadLetters, Events};
        for (purpose, setting) in [
            (Events, ("retention.ms", "-1")),
            (Events, ("retention.ms", "604800000")),
            (Events, ("max.message.bytes", "3000000")),
            (Acks, ("max.message.bytes", "1048588")),
            (Acks, ("cleanup.policy", "compact")),
            (Acks, ("retention.ms", "60000")),
            (DeadLetters, ("min.insync.replicas", "3")),
        ] {
            assert_eq!(problems_with(purpose, &[setting]), [""; 0], "{setting:?}");
        }
    }
}
