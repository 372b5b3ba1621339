//! The amount of an order: an exact decimal, and the rule that reads it from a payload. It must never be a binary
//! floating-point number: its digits are read from JSON text and written to it. An amount has at most 1,000 digits on
//! either side of its point, which every store can hold; more digits are an error and are never rounded away. The
//! processor and the checker share the rule, so they agree on every payload.

use std::fmt;

use bigdecimal::{BigDecimal, Zero};
use thiserror::Error;

use super::decimal::{MAX_DIGITS, ParsedNumber, read_decimal, read_value};
use super::items;

/// An exact decimal with at most 1,000 digits on either side of its point, without a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount(BigDecimal);

/// Why a payload has no amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// A number of the payload, or the total, has more digits than an amount holds.
    #[error(
        "{0} has more than {MAX_DIGITS} digits before or after the point; round it, or send a smaller number"
    )]
    OutOfRange(&'static str),
    /// The payload is not JSON.
    #[error("the payload is not valid JSON")]
    NotJson,
}

impl Amount {
    /// Zero: the amount of an order before it is processed.
    #[must_use]
    pub fn zero() -> Amount {
        Amount(BigDecimal::zero())
    }

    /// Reads a decimal in JSON's spelling or another usual one: `12`, `-0.50`, `1e3`, `.5`, ` 7 `. Trailing zeros are
    /// kept. `None` where the text is not a number or has more than 1,000 digits on a side.
    #[must_use]
    pub fn parse(text: &str) -> Option<Amount> {
        match read_decimal(text) {
            ParsedNumber::Number(value) => Some(Amount(value)),
            ParsedNumber::TooLong | ParsedNumber::NotANumber => None,
        }
    }

    /// The rule: `payload.amount` if it is a number or a numeric string; else the sum over `payload.items[]`
    /// of `price * qty`, where a missing or zero `qty` counts as one and a `price` that is not a number counts
    /// as zero; else zero. Of a key given twice the last one counts, as in PostgreSQL's `jsonb`.
    ///
    /// # Errors
    /// [`AmountError::OutOfRange`] where a number that counts, or the total, has too many digits;
    /// [`AmountError::NotJson`].
    pub fn of_payload(payload: &str) -> Result<Amount, AmountError> {
        let (amount, sum) = items::read(payload).map_err(|_| AmountError::NotJson)?;
        match amount.map_or(ParsedNumber::NotANumber, read_value) {
            ParsedNumber::Number(value) => return Ok(Amount(value)),
            ParsedNumber::TooLong => return Err(AmountError::OutOfRange("payload.amount")),
            ParsedNumber::NotANumber => {}
        }
        let total = sum.map_err(AmountError::OutOfRange)?;
        // Checked before the scales are made equal, which is the expensive part.
        let out_of_range = AmountError::OutOfRange("the sum over payload.items");
        if total.scale() > MAX_DIGITS {
            return Err(out_of_range);
        }
        let total = total.value();
        if fits(&total) { Ok(Amount(total)) } else { Err(out_of_range) }
    }
}

impl fmt::Display for Amount {
    /// The plain digits, without an exponent: a JSON number and a SQL literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_plain_string())
    }
}

fn fits(value: &BigDecimal) -> bool {
    let (digits, scale) = value.as_bigint_and_exponent();
    let count = if digits.is_zero() { 0 } else { value.digits() as i64 };
    scale <= MAX_DIGITS && count - scale <= MAX_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digits of a payload's amount.
    fn amount(payload: &str) -> String {
        Amount::of_payload(payload).expect(payload).to_string()
    }

    /// The digits that a text is read as; `None` where it is not an amount.
    fn read(text: &str) -> Option<String> {
        Amount::parse(text).map(|amount| amount.to_string())
    }

    fn too_long(payload: &str) -> &'static str {
        match Amount::of_payload(payload) {
            Err(AmountError::OutOfRange(number)) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_is_read_in_every_usual_spelling_and_written_plainly() {
        for (text, digits) in [
            ("12", "12"),
            ("-0.50", "-0.50"),
            ("+7", "7"),
            (" 7\t\n", "7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("1.25e-3", "0.00125"),
            ("120e-1", "12.0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("007", "7"),
            ("0e5", "0"),
            ("12345678901234567890", "12345678901234567890"),
            ("0.10000000000000000000000000000000001", "0.10000000000000000000000000000000001"),
        ] {
            assert_eq!(read(text).as_deref(), Some(digits), "{text:?}");
        }
    }

    #[test]
    fn a_text_that_only_looks_like_a_number_is_refused() {
        for text in [
            "", " ", ".", "-", "+", "e", "e5", "1e", "1e+", "1e1.5", "1e5e5", "--1", "+-1", "- 1", "1 2",
            "1.2.3", "1,5", "1_000", "0x10", "1e0x1", "NaN", "nan", "inf", "-inf", "Infinity", "1f", "٣",
            "½", "1\0", "true",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_thousand_digits_fit_on_either_side_of_the_point_and_one_more_does_not() {
        let nines = "9".repeat(1000);
        assert_eq!(read(&nines), Some(nines.clone()));
        assert_eq!(read(&format!("0.{nines}")), Some(format!("0.{nines}")));
        assert_eq!(read("1e999"), Some(format!("1{}", "0".repeat(999))));
        assert_eq!(read("1e-1000"), Some(format!("0.{}1", "0".repeat(999))));
        for text in [format!("9{nines}"), format!("0.9{nines}"), "1e1000".to_owned(), "1e-1001".to_owned()] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn a_huge_exponent_is_refused_without_being_written_out() {
        let nines = "9".repeat(100_000);
        for exponent in ["999999999", "-999999999", "2147483648", "9223372036854775808", nines.as_str()] {
            let text = format!("1e{exponent}");
            assert_eq!(read(&text), None, "{text:.20}");
            assert_eq!(too_long(&format!(r#"{{"amount":"{text}"}}"#)), "payload.amount");
        }
        assert_eq!(read("0e999999999").as_deref(), Some("0"));
    }

    #[test]
    fn a_million_leading_zeros_do_not_count() {
        let zeros = "0".repeat(1_000_000);
        assert_eq!(read(&format!("{zeros}12.5")).as_deref(), Some("12.5"));
    }

    #[test]
    fn the_amount_is_payload_amount_where_it_is_a_number_or_a_numeric_string() {
        let items = r#""items":[{"price":1}]"#;
        for (value, digits) in [
            ("12.30", "12.30"),
            (r#""12.30""#, "12.30"),
            (r#"" 12.30 ""#, "12.30"),
            (r#""\u0031\u0032""#, "12"),
            ("0", "0"),
            (r#""0""#, "0"),
            ("-3", "-3"),
            ("1e2", "100"),
            ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ] {
            assert_eq!(amount(&format!(r#"{{"amount":{value},{items}}}"#)), digits, "{value}");
        }
    }

    #[test]
    fn a_number_too_large_for_a_double_is_exact_as_a_string() {
        assert_eq!(amount(r#"{"amount":"1e400"}"#), format!("1{}", "0".repeat(400)));
    }

    #[test]
    fn where_the_amount_is_not_a_number_the_items_are_summed() {
        for value in
            ["null", "true", r#""""#, r#""free""#, r#""1_000""#, r#""NaN""#, "[5]", r#"{"amount":5}"#]
        {
            let payload = format!(r#"{{"amount":{value},"items":[{{"price":2,"qty":3}}]}}"#);
            assert_eq!(amount(&payload), "6", "{value}");
        }
        assert_eq!(amount(r#"{"items":[{"price":2,"qty":3}]}"#), "6");
    }

    #[test]
    fn the_items_are_summed_exactly() {
        for (items, digits) in [
            (r#"{"price":0.1,"qty":3}"#, "0.3"),
            (r#"{"price":0.1},{"price":0.2}"#, "0.3"),
            (r#"{"price":"0.1","qty":"3"}"#, "0.3"),
            (r#"{"price":19.99,"qty":100},{"price":0.01}"#, "1999.01"),
            (r#"{"price":12345678901234567890,"qty":10}"#, "123456789012345678900"),
            (r#"{"price":99999999999999999999.99,"qty":3}"#, "299999999999999999999.97"),
            (r#"{"price":1e3,"qty":2}"#, "2000"),
            (r#"{"price":5,"qty":-1},{"price":2}"#, "-3"),
            (r#"{"price":2.5,"qty":0.5}"#, "1.25"),
        ] {
            assert_eq!(amount(&format!(r#"{{"items":[{items}]}}"#)), digits, "{items}");
        }
    }

    #[test]
    fn a_qty_that_is_missing_zero_or_not_a_number_counts_as_one() {
        for qty in [
            "",
            r#","qty":0"#,
            r#","qty":"0.00""#,
            r#","qty":-0"#,
            r#","qty":null"#,
            r#","qty":"many""#,
            r#","qty":[2]"#,
        ] {
            assert_eq!(amount(&format!(r#"{{"items":[{{"price":7{qty}}}]}}"#)), "7", "{qty}");
        }
    }

    #[test]
    fn an_item_without_a_price_counts_as_zero() {
        let items = r#"[{"qty":5},{"price":"x","qty":5},{"price":null},{},[],7,-7,0.7,"7",null,true,[{"price":1}],
            {"price":[2]},{"price":{"price":3}},{"x":{"price":4}},{"price":1}]"#;
        assert_eq!(amount(&format!(r#"{{"items":{items}}}"#)), "1");
    }

    #[test]
    fn a_free_item_of_a_large_quantity_costs_one_zero() {
        assert_eq!(amount(r#"{"items":[{"price":0,"qty":1e5}]}"#), "0");
        assert_eq!(amount(r#"{"items":[{"price":0,"qty":1e5},{"price":0,"qty":1e9}]}"#), "0");
    }

    #[test]
    fn a_payload_without_an_amount_and_items_costs_nothing() {
        for payload in [
            "{}",
            "[]",
            "null",
            "7",
            r#""7""#,
            "true",
            "[{\"amount\":5}]",
            r#"{"items":[]}"#,
            r#"{"items":7}"#,
            r#"{"items":null}"#,
            r#"{"items":"[{\"price\":1}]"}"#,
            r#"{"items":{"price":1}}"#,
            r#"{"order":{"amount":5}}"#,
            r#"{"Amount":5}"#,
        ] {
            assert_eq!(amount(payload), "0", "{payload}");
        }
    }

    #[test]
    fn of_a_key_given_twice_the_last_counts() {
        assert_eq!(amount(r#"{"amount":1,"amount":2}"#), "2");
        assert_eq!(amount(r#"{"amount":1,"\u0061mount":2}"#), "2");
        assert_eq!(amount(r#"{"amount":1,"amount":null,"items":[{"price":3}]}"#), "3");
        assert_eq!(
            amount(r#"{"items":[{"price":1}],"items":[{"price":2,"price":5,"qty":3,"qty":4}]}"#),
            "20"
        );
        assert_eq!(amount(r#"{"amount":1,"items":[{"price":3}],"amount":"free"}"#), "3");
        assert_eq!(amount(r#"{"items":[{"price":"1e1000"}],"items":[{"price":2}]}"#), "2");
        assert_eq!(amount(r#"{"items":[{"price":1}],"items":null}"#), "0");
        assert_eq!(amount(r#"{"items":[{"price":"1e1000"}],"amount":7}"#), "7");
    }

    #[test]
    fn a_number_with_too_many_digits_is_refused_and_named() {
        assert_eq!(too_long(r#"{"amount":"1e1000"}"#), "payload.amount");
        assert_eq!(too_long(r#"{"items":[{"price":"1e1000"}]}"#), "payload.items[].price");
        assert_eq!(too_long(r#"{"items":[{"price":1,"qty":"1e1000"}]}"#), "payload.items[].qty");
        assert_eq!(too_long(r#"{"items":[{"price":"1e999","qty":"1e999"}]}"#), "the sum over payload.items");
        assert_eq!(
            too_long(r#"{"items":[{"price":"1e-999","qty":"1e-999"}]}"#),
            "the sum over payload.items"
        );
    }

    #[test]
    fn a_text_that_is_not_json_has_no_amount() {
        for payload in ["{", "", r#"{"amount":1}}"#, r#"{"items":[{"price":1}]"#] {
            assert_eq!(Amount::of_payload(payload), Err(AmountError::NotJson), "{payload}");
        }
    }

    #[test]
    fn items_that_the_api_does_not_accept_are_skipped() {
        let long = format!("1{}", "0".repeat(400));
        for (payload, digits) in [
            (r#"{"amount":7,"items":[1e400]}"#, "7"),
            (r#"{"items":[1e400,{"price":2},"\ud800"]}"#, "2"),
            (r#"{"items":[1e400],"items":[{"price":2,"price":3}]}"#, "3"),
            (r#"{"items":1e400}"#, "0"),
            (r#"{"items":"\ud800","items":[{"price":1e400}]}"#, &long),
        ] {
            assert_eq!(amount(payload), digits, "{payload}");
        }
        assert_eq!(too_long(r#"{"items":[1e400,{"price":"1e1000"}]}"#), "payload.items[].price");
    }

    #[test]
    fn a_hundred_thousand_items_are_summed_in_one_go() {
        let items = vec![r#"{"price":"0.01","qty":3}"#; 100_000].join(",");
        assert_eq!(amount(&format!(r#"{{"items":[{items}]}}"#)), "3000.00");
    }

    #[test]
    fn items_of_the_widest_numbers_are_summed_in_one_go() {
        let items = vec![r#"{"price":1e300,"qty":1e300},{"price":1e-300,"qty":1e-300}"#; 20_000].join(",");
        let digits = amount(&format!(r#"{{"items":[{items}]}}"#));
        assert_eq!(digits, format!("2{}.{}20000", "0".repeat(604), "0".repeat(595)));
    }
}
