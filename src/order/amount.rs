//! The amount of an order: an exact decimal, and the rule that reads it from a payload. No binary floating
//! point is involved anywhere: digits come from the JSON text and go back into it.

use std::fmt;

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::{BigDecimal, One, Zero};
use serde_json::value::RawValue;
use thiserror::Error;

use super::json::pick;

/// The most digits an amount has on either side of its point. Far beyond any price, and well inside what
/// PostgreSQL's `numeric` holds (131,072 and 16,383).
const MAX_DIGITS: i64 = 1000;

/// An exact decimal with at most 1,000 digits on either side of its point, without a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount(BigDecimal);

/// Why a payload has no amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// A number of the payload, or the total, has more digits than an amount holds.
    #[error("{0} has more than {MAX_DIGITS} digits before or after the point; send a smaller number")]
    OutOfRange(&'static str),
    /// The payload is not JSON.
    #[error("the payload is not valid JSON")]
    NotJson,
}

impl Amount {
    /// Zero: what an order has before it is processed.
    #[must_use]
    pub fn zero() -> Amount {
        Amount(BigDecimal::zero())
    }

    /// Reads a decimal as JSON and common sense write it: `12`, `-0.50`, `1e3`, `.5`, ` 7 `. Trailing zeros
    /// are kept. `None` where the text is no number or has more than 1,000 digits on a side.
    #[must_use]
    pub fn parse(text: &str) -> Option<Amount> {
        match read_decimal(text) {
            Reading::Number(value) => Some(Amount(value)),
            Reading::TooLong | Reading::NotANumber => None,
        }
    }

    /// The rule: `payload.amount` if it is a number or a numeric string; else the sum over `payload.items[]`
    /// of `price * qty`, where a missing or zero `qty` counts as one and a `price` that is no number counts
    /// as zero; else zero. Of a key given twice the last one counts, as in PostgreSQL's `jsonb`.
    ///
    /// # Errors
    /// [`AmountError::OutOfRange`] where a number that counts, or the total, has too many digits.
    pub fn of_payload(payload: &str) -> Result<Amount, AmountError> {
        let [amount, items] = pick(payload, ["amount", "items"]).map_err(|_| AmountError::NotJson)?;
        match amount.map_or(Reading::NotANumber, read_value) {
            Reading::Number(value) => return Ok(Amount(value)),
            Reading::TooLong => return Err(AmountError::OutOfRange("payload.amount")),
            Reading::NotANumber => {}
        }
        // Not an array: there are no items to sum.
        let items: Vec<&RawValue> =
            items.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let mut total = BigDecimal::zero();
        for item in items {
            let [price, qty] = pick(item.get(), ["price", "qty"]).map_err(|_| AmountError::NotJson)?;
            let price = match price.map_or(Reading::NotANumber, read_value) {
                Reading::Number(value) => value,
                Reading::TooLong => return Err(AmountError::OutOfRange("payload.items[].price")),
                Reading::NotANumber => continue,
            };
            let qty = match qty.map_or(Reading::NotANumber, read_value) {
                Reading::Number(value) if !value.is_zero() => value,
                Reading::TooLong => return Err(AmountError::OutOfRange("payload.items[].qty")),
                Reading::Number(_) | Reading::NotANumber => BigDecimal::one(),
            };
            total += price * qty;
        }
        if fits(&total) {
            Ok(Amount(total))
        } else {
            Err(AmountError::OutOfRange("the sum over payload.items"))
        }
    }
}

impl fmt::Display for Amount {
    /// The plain digits, without an exponent: a JSON number and a SQL literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_plain_string())
    }
}

enum Reading {
    Number(BigDecimal),
    TooLong,
    NotANumber,
}

/// A JSON value as a number: a number itself, or a string that holds one.
fn read_value(raw: &RawValue) -> Reading {
    let text = raw.get();
    if !text.starts_with('"') {
        return read_decimal(text);
    }
    serde_json::from_str::<String>(text).map_or(Reading::NotANumber, |inner| read_decimal(&inner))
}

/// Our own grammar and not the decimal library's: that one also takes `1_000`, and would expand `1e999999999`.
fn read_decimal(text: &str) -> Reading {
    let text = text.trim_ascii();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match read_exponent(exponent) {
            Some(exponent) => (mantissa, exponent),
            None => return Reading::NotANumber,
        },
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Reading::NotANumber;
    }
    let scale = fraction.len() as i64 - exponent;
    let significant = digits.iter().skip_while(|digit| **digit == b'0').count() as i64;
    // A zero of any size is zero; only its decimals could be too many.
    if scale > MAX_DIGITS || (significant > 0 && significant - scale > MAX_DIGITS) {
        return Reading::TooLong;
    }
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let values: Vec<u8> = digits.iter().map(|digit| digit - b'0').collect();
    match BigInt::from_radix_be(sign, &values, 10) {
        Some(digits) if significant == 0 => Reading::Number(BigDecimal::new(digits, scale.max(0))),
        Some(digits) => Reading::Number(BigDecimal::new(digits, scale)),
        None => Reading::NotANumber,
    }
}

/// The exponent, held at a size that later sums cannot overflow; `None` where it is no integer.
fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    Some(if text.starts_with('-') { -size } else { size })
}

fn fits(value: &BigDecimal) -> bool {
    let (digits, scale) = value.as_bigint_and_exponent();
    let count = if digits.is_zero() { 0 } else { value.digits() as i64 };
    scale <= MAX_DIGITS && count - scale <= MAX_DIGITS
}
