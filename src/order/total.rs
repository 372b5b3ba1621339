//! A sum of products of decimals, exact, and cheap for decimals of any scales. To add two decimals their scales must be
//! made equal, and next to `1e999` a cent is a number of a thousand digits. So there is one sum for each scale, and the
//! scales are made equal once, at the end: the cost depends on the length of the text, not on its exponents.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};

/// The largest power of ten in a machine word.
const WORD: u32 = 19;

/// The sums so far, by the number of digits behind the point. Numbers of a thousand digits on either side have products
/// of two thousand, so there are at most four thousand sums of as many digits.
#[derive(Debug, Default)]
pub(super) struct Total(BTreeMap<i64, BigInt>);

impl Total {
    /// Adds a product. A product of zero adds nothing, also no digits behind the point.
    pub(super) fn add(&mut self, price: BigDecimal, qty: BigDecimal) {
        let ((price, price_scale), (qty, qty_scale)) =
            (price.into_bigint_and_exponent(), qty.into_bigint_and_exponent());
        let product = price * qty;
        if product.sign() != Sign::NoSign {
            *self.0.entry(price_scale + qty_scale).or_default() += product;
        }
    }

    /// The most digits that an addend has behind its point; the sum has as many.
    pub(super) fn scale(&self) -> i64 {
        self.0.last_key_value().map_or(0, |(scale, _)| *scale)
    }

    /// The sum.
    pub(super) fn value(self) -> BigDecimal {
        let scale = self.scale();
        let (mut sum, mut at) = (BigInt::ZERO, scale);
        for (index, (scale, addend)) in self.0.into_iter().enumerate() {
            if index > 0 {
                shift(&mut sum, scale - at);
            }
            sum += addend;
            at = scale;
        }
        BigDecimal::new(sum, scale)
    }
}

/// Multiplies by a power of ten.
fn shift(number: &mut BigInt, places: i64) {
    let mut places = u32::try_from(places).unwrap_or(0);
    while places > 0 {
        let digits = places.min(WORD);
        *number *= 10_u64.pow(digits);
        places -= digits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> BigDecimal {
        text.parse().unwrap()
    }

    #[test]
    fn products_of_any_scales_are_summed_exactly() {
        let products =
            [("0.1", "3"), ("-2", "1e30"), ("7e-40", "2e3"), ("0", "1e-900"), ("1e999", "1e999"), ("9", "9")];
        let mut total = Total::default();
        let mut expected = BigDecimal::default();
        for (price, qty) in products {
            total.add(decimal(price), decimal(qty));
            expected += decimal(price) * decimal(qty);
        }
        assert_eq!(total.scale(), 37);
        assert_eq!(total.value(), expected);
    }

    #[test]
    fn no_products_are_zero() {
        let mut total = Total::default();
        total.add(decimal("0.00"), decimal("1e-999"));
        assert_eq!((total.scale(), total.value()), (0, BigDecimal::default()));
    }
}
