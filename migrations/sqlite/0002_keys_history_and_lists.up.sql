-- Keys of requests, the history, and lists of a user's orders. Leaves every order as it is.

-- What a request did that carried a key. A key is valid as long as its row is there; rows are dropped from the oldest
-- on. The digest has no index of its own, see key_entries.
CREATE TABLE keys (
    seq        INTEGER PRIMARY KEY,
    digest     BLOB    NOT NULL,
    content    BLOB    NOT NULL,
    order_id   BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    status     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- The index of keys, made like external_ids: its entries come in no order, and are merged many at a time. Keys of one
-- age stand together (the upper bits of `key` are those of `seq`), so that old ones are dropped page by page.
CREATE TABLE key_entries (
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_entries_upto (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO key_entries_upto (seq) VALUES (0);

-- One row for each command that was accepted and each outcome that was recorded, in the order in which they became
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

-- The newest row that was dropped: numbers are never given out again, also when all rows are gone.
CREATE TABLE history_dropped (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO history_dropped (seq) VALUES (0);

-- A user's orders stand in external_ids, too, under the empty external id, which no order is looked for by. The
-- program adds the entries of the orders that the table covers right after this.
