//! The token of an OAUTHBEARER login: a JWT in a file, which another program renews, as Kubernetes renews the token of
//! a service account. Each of librdkafka's clients asks for the token when it is created, and again before it expires;
//! the file is read each time. Errors about the token never quote its content.
//!
//! The token is not verified here: that is the broker's task.

use std::error::Error;
use std::fs;

use rdkafka::client::OAuthToken;
use serde::Deserialize;

/// The claims that the client needs.
#[derive(Deserialize)]
struct Claims {
    /// The principal.
    sub: String,
    /// When the token expires, in seconds since 1970.
    exp: f64,
}

/// Reads the token in a file.
pub(super) fn token(file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    let file = file.ok_or("the file of the token is not set (KAFKA_OAUTH_TOKEN_FILE)")?;
    let failed = |why: &str| format!("the token in {file} (KAFKA_OAUTH_TOKEN_FILE) cannot be used: {why}");
    let token = fs::read_to_string(file).map_err(|error| failed(&error.to_string()))?;
    Ok(read(token.trim()).map_err(failed)?)
}

fn read(token: &str) -> Result<OAuthToken, &'static str> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is not a JWT, which has three parts with dots between");
    };
    let claims = decode(claims).ok_or("the claims of the JWT are not base64url")?;
    let claims: Claims = serde_json::from_slice(&claims)
        .map_err(|_| "the claims of the JWT are not an object with a text `sub` and a number `exp`")?;
    let token = token.to_owned();
    Ok(OAuthToken { token, principal_name: claims.sub, lifetime_ms: (claims.exp * 1000.0) as i64 })
}

/// Decodes base64url without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // A single digit is less than a byte.
    (count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_gives_its_subject_and_its_expiry() {
        // {"sub":"orders","exp":1760000000.5}
        let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmRlcnMiLCJleHAiOjE3NjAwMDAwMDAuNX0.";
        let read = read(token).map_err(str::to_owned).unwrap();
        assert_eq!((read.token.as_str(), read.principal_name.as_str()), (token, "orders"));
        assert_eq!(read.lifetime_ms, 1_760_000_000_500);
    }

    #[test]
    fn the_error_for_an_invalid_jwt_does_not_quote_it() {
        for (text, why) in [
            ("", "not a JWT"),
            ("secret", "not a JWT"),
            ("a.b.c.secret", "not a JWT"),
            ("a.sec+ret.c", "not base64url"),
            ("a.b.c", "not base64url"),
            ("a.e30.c", "`sub`"),
            ("a..c", "`sub`"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let error = token(file.to_str()).err().unwrap().to_string();
        assert!(error.contains("KAFKA_OAUTH_TOKEN_FILE") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn base64url_is_decoded_at_every_length() {
        for (text, bytes) in [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")] {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(decode("Z"), None);
        assert_eq!(decode("Zm9vY"), None);
        assert_eq!(decode("Zg=="), None);
    }
}
