//! Generators of JSON text for property tests: every form that the grammar allows and a client may send, unusual
//! numbers, white space, duplicate keys, escapes, nesting. They make text, never values, because their tests check that
//! text is kept.

use proptest::prelude::*;

/// White space between two tokens.
fn gap() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// A number in any form, within the range of a double.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("-0".to_owned()),
        Just("0.0e-0".to_owned()),
        Just("1E+2".to_owned()),
        Just("1e-400".to_owned()),
        Just("12345678901234567890123".to_owned()),
        Just("0.1000".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?",
    ]
}

/// A string with its quotes: plain characters of any script, and escapes. No NUL, which no store holds.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[^\"\\\\\\x00-\\x1f]{0,6}",
        1 => prop::sample::select(vec![
            r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0041", r"\u00e9", r"\u0416", r"\u001f",
            r"\ud83d\ude00", r"\uD83D\uDE00",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A member's name: often one that the service reads, so that duplicates and wrong types of those occur.
fn key() -> impl Strategy<Value = String> {
    let known =
        [r#""id""#, r#""\u0069d""#, r#""amount""#, r#""items""#, r#""price""#, r#""qty""#, r#""payload""#];
    prop_oneof![1 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => string()]
}

/// Any JSON text, with white space inside and none around it.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false", "{}", "[]"]).prop_map(str::to_owned),
        number(),
        string(),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let element =
            (gap(), inner.clone(), gap()).prop_map(|(before, value, after)| before + &value + &after);
        let member = (gap(), key(), gap(), gap(), inner, gap())
            .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
        prop_oneof![
            prop::collection::vec(element, 0..6).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}
