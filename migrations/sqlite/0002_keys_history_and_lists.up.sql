-- Keys of requests, the history, and lists of a user's orders. Changes no order.

-- The outcomes of requests with a key. A key is valid while its row exists; rows are dropped from the oldest on. The
-- digest has no index of its own, see key_entries.
CREATE TABLE keys (
    seq        INTEGER PRIMARY KEY,
    digest     BLOB    NOT NULL,
    content    BLOB    NOT NULL,
    order_id   BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    status     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- The index of keys, made like external_ids: its entries arrive in random order, and are merged many at a time. Keys of
-- one age are together (the upper bits of `key` are those of `seq`), so that old ones are dropped page by page.
CREATE TABLE key_entries (
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_entries_upto (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO key_entries_upto (seq) VALUES (0);

-- One row (history event) for each accepted command and each recorded outcome, in the order in which they became
-- visible. Rows are added, never changed, and dropped from the oldest on.
CREATE TABLE history (
    seq      INTEGER PRIMARY KEY,
    order_id BLOB    NOT NULL,
    user_id  BLOB    NOT NULL,
    version  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    -- c: a command, w: the worker, e: an event from outside.
    cause    TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    amount   TEXT,
    reason   TEXT
) STRICT;

CREATE INDEX history_by_order ON history (order_id, version);

-- The newest row that was dropped: a number is never used twice, even when all rows have been dropped.
CREATE TABLE history_dropped (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO history_dropped (seq) VALUES (0);

-- A user's orders have entries in external_ids, too, under the empty external id, which is never looked up as such.
-- After this file the program adds these entries for the orders that the table covers.
