//! The names of settings: every name that a file may hold, and the nearest one to a misspelt name. A secret has two
//! names: its own, and that of the file that holds it. Two letters in the wrong order count as one mistake. There is
//! always a nearest name, however far it is; the caller decides whether it is meant. Nothing here reads a value.

use super::settings::KEYS;

/// Every name that a file of settings may hold.
pub(super) fn names() -> impl Iterator<Item = String> {
    KEYS.iter().flat_map(|key| [Some(key.name.to_owned()), key.file_name()]).flatten()
}

/// The known name that is nearest to a wrong one.
pub(super) fn nearest(wrong: &str) -> String {
    let wrong = wrong.to_ascii_lowercase().replace('-', "_");
    names().min_by_key(|name| distance(&wrong, name)).unwrap_or_default()
}

/// The number of letters to add, remove, change or swap with the next that make one text the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    strsim::osa_distance(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{flag, variable};

    #[test]
    fn a_misspelt_name_finds_the_nearest_setting() {
        assert_eq!(nearest("ack_wait_timeot"), "ack_wait_timeout");
        assert_eq!(nearest("API-PORT"), "api_port");
        assert_eq!(nearest("kafka_broker"), "kafka_brokers");
        assert_eq!(nearest("postgres_dns_file"), "postgres_dsn_file");
    }

    #[test]
    fn the_distance_of_two_texts_counts_the_letters_between_them() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("histroy", "history"), 1);
    }

    #[test]
    fn each_layer_spells_a_key_its_own_way() {
        assert_eq!(variable("ack_wait_timeout"), "ACK_WAIT_TIMEOUT");
        assert_eq!(flag("ack_wait_timeout"), "--ack-wait-timeout");
        let secrets: Vec<_> = KEYS.iter().filter_map(crate::config::Key::file_name).collect();
        assert_eq!(
            secrets,
            [
                "postgres_dsn_file",
                "redis_addr_file",
                "kafka_sasl_password_file",
                "kafka_client_key_password_file"
            ]
        );
    }

    #[test]
    fn the_help_of_a_key_is_one_line_that_ends_in_a_full_stop() {
        for key in KEYS {
            assert!(key.help().ends_with('.') && !key.help().contains('\n'), "{}", key.name);
        }
    }
}
