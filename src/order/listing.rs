//! Lists of orders: the filter, and the cursor of the next page. Pages begin with the newest order. A store scans a
//! bounded number of rows for a page, so a page may be short or empty and still have a next one. Each store fills the
//! two parts of a cursor in its own way, and no other part of the program may interpret them. All stores use
//! [`Filter::admits`] on the rows that they find, so that they list the same orders.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use super::entity::Order;
use super::id::UserId;
use super::status::Status;

/// The orders that a list contains: those that fit all given conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Their owner.
    pub user_id: Option<UserId>,
    /// Their status.
    pub status: Option<Status>,
    /// The external id in their payload. Only together with `user_id`.
    pub external_id: Option<String>,
    /// Accepted at that time or later.
    pub created_from: Option<Timestamp>,
    /// Accepted before that time.
    pub created_before: Option<Timestamp>,
    /// Whether the list contains deleted orders, too.
    pub with_deleted: bool,
}

impl Filter {
    /// Whether an order fits, for the conditions that a store's index cannot answer.
    #[must_use]
    pub fn admits(&self, order: &Order) -> bool {
        self.user_id.is_none_or(|user_id| user_id == order.user_id)
            && self.status.is_none_or(|status| status == order.status)
            && self.external_id.as_deref().is_none_or(|id| id == order.payload.external_id())
            && self.created_from.is_none_or(|from| order.created_at >= from)
            && self.created_before.is_none_or(|before| order.created_at < before)
            && (self.with_deleted || order.status != Status::Deleted)
    }
}

/// A cursor in a list: right behind one of its orders. Written as 48 hexadecimal digits; only its store can interpret
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    /// The sort key of the list.
    pub major: i64,
    /// Distinguishes orders with the same sort key.
    pub minor: [u8; 16],
}

/// A text is not a cursor of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("send a next_cursor of an earlier page as it was, or leave it out to begin with the newest order")]
pub struct BadListCursor;

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:032x}", self.major, u128::from_be_bytes(self.minor))
    }
}

impl FromStr for ListCursor {
    type Err = BadListCursor;

    fn from_str(text: &str) -> Result<ListCursor, BadListCursor> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 48 || !text.bytes().all(is_hex) {
            return Err(BadListCursor);
        }
        let major = u64::from_str_radix(&text[..16], 16).map_err(|_| BadListCursor)?;
        let minor = u128::from_str_radix(&text[16..], 16).map_err(|_| BadListCursor)?;
        Ok(ListCursor { major: major.cast_signed(), minor: minor.to_be_bytes() })
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The orders, the newest first. A page may have fewer than the limit, or none, and still have a next page.
    pub orders: Vec<Order>,
    /// The cursor of the next page; `None` after the last one.
    pub next: Option<ListCursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_other_texts_are_refused() {
        for major in [0, 1, -1, i64::MIN, i64::MAX, 1_760_000_000_123_456] {
            let cursor = ListCursor { major, minor: [0xa5; 16] };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let cursor = ListCursor { major: 7, minor: [1; 16] }.to_string();
        for text in [
            "",
            "0",
            &cursor[1..],
            &cursor.replace('0', "g"),
            &format!("{cursor}0"),
            &cursor.replace('1', "+"),
        ] {
            assert_eq!(text.parse::<ListCursor>(), Err(BadListCursor), "{text:?}");
        }
    }
}
