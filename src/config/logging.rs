//! The choices for the log: the format of its lines. What is logged is `telemetry`'s concern. The words are exact, in
//! lower case. A text that does not fit is answered with those that do, and the message must never repeat the text: the
//! loader adds it, unless it is secret.

use super::value::Value;

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Value for LogFormat {
    const PLACEHOLDER: &'static str = "text|json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(r#"there are two formats; write "text" or "json""#.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_is_answered_with_the_known_ones() {
        assert!(LogFormat::parse("xml").unwrap_err().contains(r#""text" or "json""#));
    }
}
