//! The canonical form of a JSON text: equal values have equal forms. The order of members, the white space, the escapes
//! in strings and the spelling of numbers do not matter. Of a member given twice the last one counts. Numbers are
//! compared as exact decimals and never written out, so a huge exponent costs nothing. A complete array or object is
//! replaced by its digest, so the memory stays within a few times the size of the text.

use std::io::Write;

use uuid::Uuid;

/// Namespaces of the digests of arrays and of objects.
const ARRAYS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_6172_7261);
const OBJECTS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_6f62_6a65);

/// The deepest nesting that is read; a payload that was parsed has less.
const DEEPEST: usize = 128;

/// Appends the canonical form of a JSON text that has been checked before. Each form has an end of its own, so that
/// sequences of different values have different forms.
pub(super) fn append(text: &str, form: &mut Vec<u8>) {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    reader.value(form, 0);
}

/// A reader of a text, and its index in it.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// The indexes of an object's member in the form: the beginning of its name, of its value, and its end.
type Member = (usize, usize, usize);

impl Reader<'_> {
    fn value(&mut self, form: &mut Vec<u8>, depth: usize) {
        match self.peek() {
            Some(b'{') if depth < DEEPEST => self.object(form, depth),
            Some(b'[') if depth < DEEPEST => self.array(form, depth),
            Some(b'"') => self.string(form),
            Some(b'-' | b'0'..=b'9') => self.number(form),
            Some(letter @ (b't' | b'f' | b'n')) => {
                form.push(letter);
                self.skip(|byte| byte.is_ascii_lowercase());
            }
            // Not JSON: the rest is compared as it is written.
            _ => {
                form.push(b'?');
                form.extend_from_slice(&self.text[self.at..]);
                self.at = self.text.len();
            }
        }
    }

    fn array(&mut self, form: &mut Vec<u8>, depth: usize) {
        let start = form.len();
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b']' => {
                    self.at += 1;
                    break;
                }
                b',' => self.at += 1,
                _ => self.value(form, depth + 1),
            }
        }
        let digest = Uuid::new_v5(&ARRAYS, &form[start..]);
        replace(form, start, b'[', digest);
    }

    fn object(&mut self, form: &mut Vec<u8>, depth: usize) {
        let (start, mut members): (usize, Vec<Member>) = (form.len(), Vec::new());
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'}' => {
                    self.at += 1;
                    break;
                }
                b',' => self.at += 1,
                b'"' => {
                    let name = form.len();
                    self.string(form);
                    let value = form.len();
                    if self.peek() == Some(b':') {
                        self.at += 1;
                    }
                    self.value(form, depth + 1);
                    members.push((name, value, form.len()));
                }
                _ => self.value(form, depth + 1),
            }
        }
        let digest = Uuid::new_v5(&OBJECTS, &in_order(&form[start..], start, members));
        replace(form, start, b'{', digest);
    }

    fn string(&mut self, form: &mut Vec<u8>) {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
        let quoted = &self.text[start..self.at];
        form.push(b'"');
        match escaped.then(|| serde_json::from_slice::<String>(quoted)) {
            Some(Ok(text)) => form.extend_from_slice(text.as_bytes()),
            _ => form.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or(quoted)),
        }
        // A stored string cannot contain a NUL.
        form.push(0);
    }

    fn number(&mut self, form: &mut Vec<u8>) {
        let from = self.at;
        self.skip(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let (start, written) = (form.len(), &self.text[from..self.at]);
        form.push(b'0');
        if decimal(written, form).is_none() {
            // An exponent of more than eighteen digits: a store cannot hold such a number.
            form.truncate(start);
            form.push(b'N');
            form.extend_from_slice(written);
        }
        form.push(0);
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, which: impl Fn(u8) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|byte| !which(*byte)).unwrap_or(rest.len());
    }
}

/// Replaces the form of an array or object by its digest.
fn replace(form: &mut Vec<u8>, start: usize, tag: u8, digest: Uuid) {
    form.truncate(start);
    form.push(tag);
    form.extend_from_slice(digest.as_bytes());
}

/// The members of an object by name, each name once. `form` begins at `start`.
fn in_order(form: &[u8], start: usize, mut members: Vec<Member>) -> Vec<u8> {
    let name = |member: &Member| &form[member.0 - start..member.1 - start];
    // Stable: of equal names the last one stays the last.
    members.sort_by(|a, b| name(a).cmp(name(b)));
    let mut ordered = Vec::with_capacity(form.len());
    for (at, member) in members.iter().enumerate() {
        if members.get(at + 1).is_none_or(|next| name(next) != name(member)) {
            ordered.extend_from_slice(&form[member.0 - start..member.2 - start]);
        }
    }
    ordered
}

/// Appends a number: its sign, its digits without zeros at either end, and its exponent. Zero has none of them.
fn decimal(written: &[u8], form: &mut Vec<u8>) -> Option<()> {
    let (sign, unsigned) = match written.strip_prefix(b"-") {
        Some(unsigned) => (Some(b'-'), unsigned),
        None => (None, written),
    };
    let end = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(unsigned.len());
    let (mantissa, exponent) = unsigned.split_at(end);
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let digits = mantissa.iter().copied().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0');
    let begin = form.len();
    form.extend(sign);
    let first = form.len();
    form.extend(digits);
    let last = form.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1).max(first);
    if last == first {
        form.truncate(begin);
        return Some(());
    }
    let zeros = form.len() - last;
    form.truncate(last);
    let exponent: i64 = match exponent.get(1..) {
        Some(exponent) => str::from_utf8(exponent).ok()?.parse().ok()?,
        None => 0,
    };
    let fraction = mantissa.len().saturating_sub(point + 1);
    let exponent = exponent.checked_add(i64::try_from(zeros).ok()?)?;
    let exponent = exponent.checked_sub(i64::try_from(fraction).ok()?)?;
    write!(form, "e{exponent}").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Vec<u8> {
        let mut form = Vec::new();
        append(text, &mut form);
        form
    }

    #[test]
    fn equal_values_have_equal_forms() {
        for texts in [
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000e0000000000000000000000", " 1 "][..],
            &["0", "-0", "0.00", "0e999999999999", "-0.0e-5"],
            &["-12.5", "-125e-1", "-0.0125e3"],
            &["1e400", "10e399", "0.1e401"],
            &["1e-999999999999", "10e-1000000000000"],
            &[r#""A""#, r#""\u0041""#],
            &[r#""é/\n""#, r#""\u00e9\/\u000a""#],
            &[r#""😀""#, r#""\ud83d\ude00""#],
            &[r#"{"a":1,"b":[2,{"c":null}]}"#, " { \"b\" : [ 2.0 ,\n{\"\\u0063\":null}] , \"a\" : 1e0 } "],
            &[r#"{"a":2}"#, r#"{"a":1,"a":2}"#, r#"{"a":{"b":[]},"a":2}"#],
            &["[]", "[ ]"],
            &["{}", "{\n}"],
        ] {
            for text in texts {
                assert_eq!(form(text), form(texts[0]), "{text}");
            }
        }
    }

    #[test]
    fn different_values_have_different_forms() {
        let texts = [
            "1",
            "-1",
            "10",
            "1.1",
            "11",
            "1e400",
            "1e-400",
            "0",
            r#""""#,
            r#""0""#,
            r#""1""#,
            "true",
            "false",
            "null",
            r#""null""#,
            "[]",
            "{}",
            "[[]]",
            "[{}]",
            "[1]",
            "[1,1]",
            "[11]",
            r#"["1","1"]"#,
            r#"["1,1"]"#,
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[1,[2]]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"ab":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"":1}"#,
            r#"["a",1]"#,
            r#""\"a\"""#,
            r#""a""#,
            r#""\\u0041""#,
            "1e99999999999999999999",
            "1e99999999999999999998",
        ];
        for (at, text) in texts.iter().enumerate() {
            for other in &texts[at + 1..] {
                assert_ne!(form(text), form(other), "{text} and {other}");
            }
        }
    }

    #[test]
    fn a_text_that_is_not_json_has_a_form_too() {
        for text in
            ["", "{", "[", "\"", "\"\\", "{\"a\"", "{\"a\":", "[1,", "-", "1e", "}", "é", "{1:2}", "nul"]
        {
            form(text);
        }
        form(&"[".repeat(100_000));
        assert_eq!(form(&format!("[{}1]", "1,".repeat(100_000))).len(), 17);
    }
}
