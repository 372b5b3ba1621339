//! The entries in Redis, and the two scripts that read and fill them. Redis runs each script atomically, so that a
//! value cannot change between its check and its write.
//!
//! A key holds a lease, 32 bytes, and behind it the copy that was filled with it, if there is one. A lease is the
//! generation of all entries, 16 bytes, and a token of its own. Where the generation's key holds another value, or is
//! missing, the entry is void: deleting that one key, or losing it, makes all entries void.

use redis::Script;

use crate::order::OrderId;

/// The prefix of all keys, where the settings do not name another one.
pub(super) const PREFIX: &str = "orderstream";

/// The key of the generation.
pub(super) fn generation(prefix: &str) -> String {
    format!("{prefix}:generation")
}

/// How long a lease is valid, in milliseconds: longer than a store takes to read one order.
pub(super) const LEASE_MILLIS: u64 = 5_000;

/// The bytes of a lease.
pub(super) const LEASE_BYTES: usize = 32;

/// The key of an order. It does not contain a version of the program or of the format, because processes of two
/// versions must be able to invalidate one another's entries. So the key and the lease must never change; the copy
/// behind them has a format number.
pub(super) fn key(prefix: &str, order_id: OrderId) -> String {
    format!("{prefix}:order:{order_id}")
}

/// Reads a key. A value of another type is not an entry, and would block the key for ever: it is deleted.
const READ: &str = r"
    local function read(key)
        local value = redis.pcall('GET', key)
        if type(value) ~= 'table' then return value end
        redis.call('DEL', key)
        return false
    end
    local function put(...)
        return not redis.pcall('SET', ...).err
    end
";

/// `KEYS`: the order's, the generation's. `ARGV`: 16 random bytes, the lease's milliseconds. Answers the entry, or a
/// new lease that is stored from now on, or nothing where Redis is full.
const LOOKUP: &str = r"
    local generation = read(KEYS[2])
    if not generation or #generation ~= #ARGV[1] then
        generation = ARGV[1]
        if not put(KEYS[2], generation) then return false end
    end
    local held = read(KEYS[1])
    if held and string.sub(held, 1, #generation) == generation then return held end
    local lease = generation .. ARGV[1]
    return put(KEYS[1], lease, 'PX', ARGV[2]) and lease
";

/// `KEYS`: the order's. `ARGV`: a lease, a copy, its milliseconds. Writes the copy behind its lease and leaves an equal
/// entry. In every other case it deletes the entry: that may be older than this copy, or become so when its own reader
/// fills it, and the caller of this fill is about to be answered with this copy. A lease of a past generation makes an
/// entry of that generation, which is void.
const FILL: &str = r"
    local held, full = read(KEYS[1]), ARGV[1] .. ARGV[2]
    if held == full or held == ARGV[1] and put(KEYS[1], full, 'PX', ARGV[3]) then return end
    redis.call('DEL', KEYS[1])
";

/// The script of a look-up.
pub(super) fn lookup() -> Script {
    Script::new(&[READ, LOOKUP].concat())
}

/// The script of a fill.
pub(super) fn fill() -> Script {
    Script::new(&[READ, FILL].concat())
}
