//! The choices for Postgres: the server for reads. The store, not this room, acts on them. `primary` promises that a
//! read returns every write that was answered before; `any` gives that up: reads go to the first server of the DSN that
//! can be reached, which may be a standby. Writes are not affected. The words are exact, in lower case, and a text that
//! does not fit is answered with those that do.

use super::value::Value;

/// The server for reads, where the DSN names several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The primary: a read sees every write that was answered before.
    Primary,
    /// The first one that can be reached, a standby perhaps, which may lag behind.
    Any,
}

impl Value for ReadFrom {
    const PLACEHOLDER: &'static str = "primary|any";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "primary" => Ok(ReadFrom::Primary),
            "any" => Ok(ReadFrom::Any),
            _ => Err(r#"reads go to the primary or to any server; write "primary" or "any""#.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_the_primary_or_any() {
        assert_eq!(ReadFrom::parse("primary"), Ok(ReadFrom::Primary));
        assert_eq!(ReadFrom::parse("any"), Ok(ReadFrom::Any));
        assert!(ReadFrom::parse("standby").unwrap_err().contains(r#""primary" or "any""#));
    }
}
