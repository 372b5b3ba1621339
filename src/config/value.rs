//! Values: parses the text of any layer into the type of a setting. A text that does not fit gets a message with what
//! does, which follows the key, the text and its source.
//!
//! Such a message must never repeat the text: whether that may be shown is not known here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::keys::Shape;

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// How it is written in TOML.
    const SHAPE: Shape = Shape::Text;
    /// Its placeholder in the help.
    const PLACEHOLDER: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// How it is written.
    fn parse(text: &str) -> Result<Self, String>;
}

/// The texts of all settings, to read each as its type.
pub(super) trait Values {
    /// The value of a key as its type.
    fn value<T: Value>(&mut self, name: &'static str) -> T;

    /// The files that secrets were read from, by key.
    fn secret_files(&self) -> BTreeMap<&'static str, PathBuf>;
}

impl Value for Option<SecretString> {
    const SHAPE: Shape = Shape::Secret;
    const PLACEHOLDER: &'static str = "SECRET";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| SecretString::from(text)))
    }
}

impl Value for Vec<String> {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "LIST";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(items(text).map(str::to_owned).collect())
    }
}

/// The items of a list that is separated by commas. Empty ones do not count: a comma at the end is not a broker.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

impl Value for String {
    const PLACEHOLDER: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    const PLACEHOLDER: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(r#"a path cannot be empty; write "." for the working directory"#.to_owned());
        }
        Ok(PathBuf::from(text))
    }
}

impl Value for Option<PathBuf> {
    const PLACEHOLDER: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

impl Value for IpAddr {
    const PLACEHOLDER: &'static str = "IP";

    fn parse(text: &str) -> Result<Self, String> {
        let fix = r#"an IP address is needed; write "127.0.0.1", or "0.0.0.0" for every interface"#;
        text.parse().map_err(|_| fix.to_owned())
    }
}

impl Value for u16 {
    const SHAPE: Shape = Shape::Number;
    const PLACEHOLDER: &'static str = "PORT";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "a port is a whole number; write one from 0 to 65535".to_owned())
    }
}

impl Value for u8 {
    const SHAPE: Shape = Shape::Number;
    const PLACEHOLDER: &'static str = "COUNT";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "a count of this kind is a whole number; write one from 0 to 255".to_owned())
    }
}

impl Value for NonZeroU32 {
    const SHAPE: Shape = Shape::Number;
    const PLACEHOLDER: &'static str = "COUNT";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("a count is a whole number; write one from 1 to {}", u32::MAX))
    }
}

/// A share in percent: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// That many percent; `None` unless it is 1 to 100.
    #[must_use]
    pub fn new(percent: u8) -> Option<Percent> {
        (1..=100).contains(&percent).then_some(Percent(percent))
    }
}

impl Value for Percent {
    const SHAPE: Shape = Shape::Number;
    const PLACEHOLDER: &'static str = "PERCENT";

    fn parse(text: &str) -> Result<Self, String> {
        let percent = text.parse().ok().and_then(Percent::new);
        percent.ok_or_else(|| "a share is a whole number of percent; write one from 1 to 100".to_owned())
    }
}

impl Value for Vec<IpNet> {
    const SHAPE: Shape = Shape::List;
    const PLACEHOLDER: &'static str = "LIST";

    fn parse(text: &str) -> Result<Self, String> {
        let network = |item: &str| item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
        let networks: Result<_, _> = items(text).map(network).collect();
        networks.map_err(|_| r#"write addresses or networks, as "10.0.0.7" or "10.0.0.0/8""#.to_owned())
    }
}

impl Value for bool {
    const SHAPE: Shape = Shape::Switch;
    const PLACEHOLDER: &'static str = "on|off";

    fn parse(text: &str) -> Result<Self, String> {
        let fix = r#"a switch is on or off; write "on" or "off""#;
        switch(text).ok_or_else(|| fix.to_owned())
    }
}

/// A switch, in any of its spellings.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

impl Value for Duration {
    const PLACEHOLDER: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        // The bound keeps the sum of a clock's time and a duration from overflowing.
        const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);
        let millis = |count: u64, each: u64| count.checked_mul(each).map(Duration::from_millis);
        let duration = match split(text) {
            Some((_, "")) => return Err(r#"a duration needs a unit; write "30s" or "500ms""#.to_owned()),
            Some((count, "ms")) => millis(count, 1),
            Some((count, "s")) => millis(count, 1000),
            Some((count, "m")) => millis(count, 60 * 1000),
            Some((count, "h")) => millis(count, 60 * 60 * 1000),
            _ => {
                let fix =
                    r#"a duration is a whole number with the unit ms, s, m or h; write "30s" or "500ms""#;
                return Err(fix.to_owned());
            }
        };
        duration
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| r#"a duration is at most ten years; write "87600h" or less"#.to_owned())
    }
}

impl Value for usize {
    const PLACEHOLDER: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        let (count, each) = match split(text) {
            Some((count, "")) => (count, 1),
            Some((count, "KiB")) => (count, 1 << 10),
            Some((count, "MiB")) => (count, 1 << 20),
            Some((count, "GiB")) => (count, 1 << 30),
            _ => {
                let fix =
                    r#"a size is a number of bytes, or one with the unit KiB, MiB or GiB; write "1MiB""#;
                return Err(fix.to_owned());
            }
        };
        let bytes = count.checked_mul(each).and_then(|bytes| usize::try_from(bytes).ok());
        bytes.ok_or_else(|| {
            r#"the size is beyond this machine's memory; write a smaller one, as "1GiB""#.to_owned()
        })
    }
}

/// A whole number and the unit directly after it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    Some((count.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(Duration::parse("87600h"), Ok(Duration::from_secs(315_360_000)));
    }

    #[test]
    fn a_text_that_is_not_a_duration_gets_a_message_with_one() {
        let unit = r#"a duration needs a unit; write "30s" or "500ms""#;
        assert_eq!(Duration::parse("30").unwrap_err(), unit);
        for text in ["", "s", "5 s", "1.5s", "-1s", "5min", "5S", "1m30s"] {
            assert!(Duration::parse(text).unwrap_err().contains("unit ms, s, m or h"), "{text:?}");
        }
        for text in ["87601h", "18446744073709551615h"] {
            assert!(Duration::parse(text).unwrap_err().contains("at most ten years"), "{text:?}");
        }
    }

    #[test]
    fn a_size_is_bytes_or_a_number_and_its_unit() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("512KiB", 524_288), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(usize::parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1MB", "1 MiB", "-1", "1.5MiB", "1mib"] {
            assert!(usize::parse(text).unwrap_err().contains("KiB, MiB or GiB"), "{text:?}");
        }
        assert!(usize::parse("18446744073709551615GiB").unwrap_err().contains("smaller"));
    }

    #[test]
    fn a_switch_and_a_list_are_read_in_their_spellings() {
        for (text, on) in
            [("on", true), ("True", true), ("1", true), ("OFF", false), ("false", false), ("0", false)]
        {
            assert_eq!(bool::parse(text), Ok(on), "{text}");
        }
        assert!(bool::parse("maybe").unwrap_err().contains(r#"write "on" or "off""#));
        assert_eq!(Vec::<String>::parse(" a:1 ,b:2,, ").unwrap(), ["a:1", "b:2"]);
        assert!(Vec::<String>::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_text_that_does_not_fit_gets_a_message_with_one_that_does() {
        assert!(u16::parse("65536").unwrap_err().contains("from 0 to 65535"));
        assert!(NonZeroU32::parse("0").unwrap_err().contains("from 1 to"));
        assert!(IpAddr::parse("localhost").unwrap_err().contains(r#""0.0.0.0""#));
        assert!(u8::parse("256").unwrap_err().contains("from 0 to 255"));
        assert_eq!(Option::<PathBuf>::parse(""), Ok(None));
        assert!(PathBuf::parse("").unwrap_err().contains("cannot be empty"));
    }
}
