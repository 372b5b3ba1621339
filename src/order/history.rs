//! The history of an order: one history event for each accepted command and each recorded outcome, in the order in
//! which they became visible. A history event is written in the same transaction as its change, and must never change.
//! Clients send offsets and cursors back as text, so each is parsed strictly: the numbers must be in the positive half
//! of 64 bits, in which the stores count. What the numbers of an offset mean, only its store defines.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use super::amount::Amount;
use super::id::{OrderId, UserId, Version};
use super::status::Status;

/// An offset in the history of all orders. Offsets grow in the order in which events become visible, so that a reader
/// that has read up to an offset has not missed an event before it. Written as two numbers with a dash between:
/// `1742-17`. The store defines the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HistoryOffset(pub u64, pub u64);

/// A text is not an offset in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("send an id that the stream gave out, such as 1742-17")]
pub struct BadHistoryOffset;

impl fmt::Display for HistoryOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for HistoryOffset {
    type Err = BadHistoryOffset;

    fn from_str(text: &str) -> Result<HistoryOffset, BadHistoryOffset> {
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // The stores count in the positive half of 64 bits.
            true => digits.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok()),
            false => None,
        };
        let (major, minor) = text.split_once('-').ok_or(BadHistoryOffset)?;
        Ok(HistoryOffset(number(major).ok_or(BadHistoryOffset)?, number(minor).ok_or(BadHistoryOffset)?))
    }
}

/// A cursor in one order's history, which is read version by version: the next page begins behind all events of a
/// version, or behind one of them. Written as the version alone, or with the event's offset behind a dot: `3`,
/// `3.1742-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryCursor {
    version: Version,
    /// The offset of the last event before the cursor; [`HistoryCursor::ALL`] where all events of the version are.
    after: HistoryOffset,
}

/// A text is not a cursor of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("send a next_cursor of an earlier page of the history as it was")]
pub struct BadHistoryCursor;

impl HistoryCursor {
    /// The largest offset: the stores count in the positive half of 64 bits.
    const ALL: HistoryOffset = HistoryOffset(i64::MAX as u64, i64::MAX as u64);

    /// Behind all events of a version.
    #[must_use]
    pub fn behind(version: Version) -> HistoryCursor {
        HistoryCursor { version, after: HistoryCursor::ALL }
    }

    /// Behind one event of a version.
    #[must_use]
    pub fn within(version: Version, after: HistoryOffset) -> HistoryCursor {
        HistoryCursor { version, after }
    }

    /// The version.
    #[must_use]
    pub fn version(self) -> Version {
        self.version
    }

    /// The events of the version up to this offset are before the cursor.
    #[must_use]
    pub fn after(self) -> HistoryOffset {
        self.after
    }

    /// The last of `versions` versions behind the cursor. A version that the cursor is inside of counts.
    #[must_use]
    pub fn last_of(self, versions: u32) -> Version {
        let first =
            if self.after == HistoryCursor::ALL { self.version } else { self.version.saturating_sub(1) };
        first.saturating_add(i64::from(versions))
    }
}

/// The beginning: versions begin at 1.
impl Default for HistoryCursor {
    fn default() -> HistoryCursor {
        HistoryCursor::behind(0)
    }
}

impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            HistoryCursor::ALL => write!(f, "{}", self.version),
            after => write!(f, "{}.{after}", self.version),
        }
    }
}

impl FromStr for HistoryCursor {
    type Err = BadHistoryCursor;

    fn from_str(text: &str) -> Result<HistoryCursor, BadHistoryCursor> {
        let (version, after) = match text.split_once('.') {
            Some((version, after)) => (version, after.parse().map_err(|_| BadHistoryCursor)?),
            None => (text, HistoryCursor::ALL),
        };
        // A number may begin with a sign, and a version does not.
        let version =
            version.parse().ok().filter(|_| version.starts_with(|first: char| first.is_ascii_digit()));
        Ok(HistoryCursor { version: version.ok_or(BadHistoryCursor)?, after })
    }
}

/// What changed an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A command that was accepted; the status tells which: `new`, `processing` (updated) or `deleted`.
    Command,
    /// The worker, which has processed a version.
    Worker,
    /// An event of another service that knows no versions.
    Event,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 3] = [Cause::Command, Cause::Worker, Cause::Event];

    /// The name in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Command => "command",
            Cause::Worker => "worker",
            Cause::Event => "event",
        }
    }

    /// Reads a name that [`Cause::as_str`] wrote; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

/// One event of an order's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEvent {
    /// Its offset in the history of all orders.
    pub offset: HistoryOffset,
    /// The order.
    pub order_id: OrderId,
    /// Its owner.
    pub user_id: UserId,
    /// The version that the command made, or whose outcome it is.
    pub version: Version,
    /// When, by the store's clock, in microseconds.
    pub at: Timestamp,
    /// What changed the order.
    pub cause: Cause,
    /// The order's status after it.
    pub status: Status,
    /// The amount that the event set, if it set one.
    pub amount: Option<Amount>,
    /// Why processing failed, where it did.
    pub reason: Option<String>,
}

/// The history events that a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The events of all orders.
    All,
    /// The events of an order.
    Order(OrderId),
    /// The events of all orders of a user.
    User(UserId),
}

impl Scope {
    /// Whether an event of that order and user is one of them.
    #[must_use]
    pub fn includes(self, order_id: OrderId, user_id: UserId) -> bool {
        match self {
            Scope::All => true,
            Scope::Order(id) => id == order_id,
            Scope::User(id) => id == user_id,
        }
    }
}

/// A page of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The events in the scope, by ascending offset.
    pub events: Vec<HistoryEvent>,
    /// How far the store has read: `events` has all events in the scope up to this offset.
    pub upto: HistoryOffset,
    /// Whether there may be more events right behind it.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_is_written_and_other_texts_are_refused() {
        for offset in [HistoryOffset::default(), HistoryOffset(1742, 17), HistoryOffset(i64::MAX as u64, 1)] {
            assert_eq!(offset.to_string().parse(), Ok(offset));
        }
        for text in
            ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", " 1-2", "1-2 ", "a-b", "9223372036854775808-0"]
        {
            assert_eq!(text.parse::<HistoryOffset>(), Err(BadHistoryOffset), "{text:?}");
        }
        assert!(HistoryOffset(1, 9) < HistoryOffset(2, 0));
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_other_texts_are_refused() {
        let within = HistoryCursor::within(3, HistoryOffset(1742, 17));
        for (text, cursor) in [
            ("0", HistoryCursor::default()),
            ("9223372036854775807", HistoryCursor::behind(Version::MAX)),
            ("3.1742-17", within),
        ] {
            assert_eq!((text.parse(), cursor.to_string().as_str()), (Ok(cursor), text));
        }
        for text in
            ["", "-1", "x", "9223372036854775808", "3.", "3.17", "-3.1-2", "+3", "+3.1-2", ".1-2", "3.1-2.3"]
        {
            assert_eq!(text.parse::<HistoryCursor>(), Err(BadHistoryCursor), "{text:?}");
        }
        assert_eq!((HistoryCursor::behind(2).last_of(3), within.last_of(3)), (5, 5));
        assert_eq!(HistoryCursor::behind(Version::MAX).last_of(3), Version::MAX);
        assert_eq!(HistoryCursor::within(0, HistoryOffset(1, 1)).last_of(0), -1);
    }

    #[test]
    fn a_cause_is_read_as_it_is_written() {
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.as_str()), Some(cause));
        }
        assert_eq!(Cause::parse("operator"), None);
    }
}
