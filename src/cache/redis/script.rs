//! What is held in Redis, and the two scripts that read and fill it. Each runs there as one step, so that no
//! decision rests on something that has changed by the time it is carried out.
//!
//! A key holds a ticket, 32 bytes, and behind it the copy that was filled with it, if it was. A ticket is the
//! generation of all entries, 16 bytes, and a token of its own. Where the generation's key holds another one, or
//! none, the entry is void: to drop that one key is to drop everything, and Redis losing it does the same.

use redis::Script;

use crate::order::OrderId;

/// What all keys begin with, where the settings name nothing else.
pub(super) const PREFIX: &str = "orderstream";

/// The key of the generation.
pub(super) fn generation(prefix: &str) -> String {
    format!("{prefix}:generation")
}

/// How long a ticket is good, in milliseconds: longer than a store takes to read one order.
pub(super) const LEASE: u64 = 5_000;

/// The bytes of a ticket.
pub(super) const TICKET: usize = 32;

/// The key of an order. There is no version of the program or of the format in it: processes of two versions must
/// drop one another's entries. So this and the ticket are for ever; what stands behind it has a format number.
pub(super) fn key(prefix: &str, order_id: OrderId) -> String {
    format!("{prefix}:order:{order_id}")
}

/// Reads a key. What is of another type was not written by us, and would be in the way for ever.
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

/// `KEYS`: the order's, the generation's. `ARGV`: 16 random bytes, the lease. Answers what is held, or a ticket
/// that is held from now on, or nothing where Redis takes no more.
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

/// `KEYS`: the order's. `ARGV`: a ticket, a copy, how long to hold it. Puts the copy behind its ticket, leaves an
/// equal one, and in every other case drops what is there: it may be older, or become so when its own reader fills
/// it, and whoever fills is about to tell a caller. A ticket of a generation that is over makes a copy of it, too.
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
