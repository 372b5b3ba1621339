//! Reads decimals from text, in JSON's spelling and other usual ones. The length of a number follows from its text, and
//! a number that is too long must never be built: seven bytes such as `1e99999` would become a hundred thousand digits.
//! Trailing zeros are kept, and a number of at most 18 digits is read without a list of its digits. The tests are those
//! of [`super::Amount`].

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use serde_json::value::RawValue;

/// The most digits an amount has on either side of its point. Far beyond any price, and well inside what
/// PostgreSQL's `numeric` holds (131,072 and 16,383).
pub(super) const MAX_DIGITS: i64 = 1000;

/// A text as a number.
pub(super) enum ParsedNumber {
    /// A number within the bounds.
    Number(BigDecimal),
    /// A number with too many digits; it was not built.
    TooLong,
    /// Something else.
    NotANumber,
}

/// A JSON value as a number: a number itself, or a string that holds one.
pub(super) fn read_value(raw: &RawValue) -> ParsedNumber {
    let text = raw.get();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => return read_decimal(text),
        Some(plain) if !plain.contains('\\') => return read_decimal(plain),
        Some(_) => {}
    }
    serde_json::from_str::<String>(text).map_or(ParsedNumber::NotANumber, |inner| read_decimal(&inner))
}

/// Our own grammar and not the decimal library's: that one also takes `1_000`, and would expand `1e999999999`.
pub(super) fn read_decimal(text: &str) -> ParsedNumber {
    let text = text.trim_ascii();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match read_exponent(exponent) {
            Some(exponent) => (mantissa, exponent),
            None => return ParsedNumber::NotANumber,
        },
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits().all(|byte| byte.is_ascii_digit()) {
        return ParsedNumber::NotANumber;
    }
    let scale = fraction.len() as i64 - exponent;
    let leading_zeros = digits().take_while(|digit| *digit == b'0').count();
    let significant = (whole.len() + fraction.len() - leading_zeros) as i64;
    // A zero of any size is zero; only its decimals could be too many.
    if scale > MAX_DIGITS || (significant > 0 && significant - scale > MAX_DIGITS) {
        return ParsedNumber::TooLong;
    }
    let digits = digits().skip(leading_zeros).map(|digit| digit - b'0');
    match integer(negative, digits, significant) {
        Some(digits) if significant == 0 => ParsedNumber::Number(BigDecimal::new(digits, scale.max(0))),
        Some(digits) => ParsedNumber::Number(BigDecimal::new(digits, scale)),
        None => ParsedNumber::NotANumber,
    }
}

/// An integer of its digits, at most two thousand.
fn integer(negative: bool, digits: impl Iterator<Item = u8>, count: i64) -> Option<BigInt> {
    // The fast path: nearly all numbers.
    if count <= 18 {
        let value = digits.fold(0_i64, |value, digit| value * 10 + i64::from(digit));
        return Some(BigInt::from(if negative { -value } else { value }));
    }
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    BigInt::from_radix_be(sign, &digits.collect::<Vec<u8>>(), 10)
}

/// The exponent, held at a size that later sums cannot overflow; `None` where it is not an integer.
fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    Some(if text.starts_with('-') { -size } else { size })
}
