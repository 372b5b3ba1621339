//! The JSON pointer (RFC 6901) of a value in a JSON text, for errors. A second pass over the text finds it, so a text
//! without errors costs nothing. It relies on a text that has been parsed before, and looks only at strings, brackets
//! and commas. A pointer is cut after about 200 bytes, so that an error stays short with any text. The tests are those
//! of `numbers`.

/// The longest pointer that an error quotes, in bytes.
const LONGEST_POINTER: usize = 200;

/// Where the string ends that begins there.
pub(super) fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// A segment of a pointer: an element of an array, or the member of a name, as JSON writes it.
enum Segment<'a> {
    Element(usize),
    Member(&'a str),
}

/// The JSON pointer (RFC 6901) of the value that begins at a byte; empty where that is the whole text.
pub(super) fn pointer(json: &str, target: usize) -> String {
    let bytes = json.as_bytes();
    let (mut at, mut segments) = (0, Vec::new());
    while at < target {
        match bytes[at] {
            b'"' => {
                let end = end_of_string(bytes, at);
                // In an object a string is a name or a value. The name comes first and is never empty: it has its
                // quotes.
                if let Some(Segment::Member(name)) = segments.last_mut()
                    && name.is_empty()
                {
                    *name = json.get(at..end).unwrap_or_default();
                }
                at = end;
                continue;
            }
            b'[' => segments.push(Segment::Element(0)),
            b'{' => segments.push(Segment::Member("")),
            b']' | b'}' => drop(segments.pop()),
            b',' => match segments.last_mut() {
                Some(Segment::Element(index)) => *index += 1,
                Some(Segment::Member(name)) => *name = "",
                None => {}
            },
            _ => {}
        }
        at += 1;
    }
    let mut pointer = String::new();
    for segment in &segments {
        pointer.push('/');
        match segment {
            Segment::Element(index) => pointer.push_str(&index.to_string()),
            Segment::Member(name) => pointer.push_str(&escaped(name)),
        }
        if let Some((end, _)) = pointer.char_indices().find(|(at, _)| *at > LONGEST_POINTER) {
            pointer.truncate(end);
            pointer.push_str("...");
            break;
        }
    }
    pointer
}

/// A member's name as a pointer writes it.
fn escaped(name: &str) -> String {
    let name: String = serde_json::from_str(name).unwrap_or_default();
    name.replace('~', "~0").replace('/', "~1")
}
