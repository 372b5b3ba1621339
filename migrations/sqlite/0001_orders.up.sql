-- The embedded store. Times are microseconds since 1970 (UTC); ids are the sixteen bytes of a UUID; an
-- amount is decimal text, because SQLite's own numbers are binary.
CREATE TABLE orders (
    -- The order of arrival. Ids grow too, but only within one process.
    seq               INTEGER PRIMARY KEY,
    order_id          BLOB    NOT NULL,
    user_id           BLOB    NOT NULL,
    status            TEXT    NOT NULL,
    version           INTEGER NOT NULL,
    processed_version INTEGER NOT NULL CHECK (processed_version <= version),
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    -- Set once, never cleared: a deleted order that came back would show.
    deleted_at        INTEGER,
    -- Time of the newest processed change: an event without a version applies only if it is newer.
    source_at         INTEGER,
    amount            TEXT    NOT NULL,
    reason            TEXT,
    external_id       TEXT    NOT NULL,
    payload           TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX orders_by_id ON orders (order_id);

-- The index of external ids: a digest of user and external id, and a row that has or had them. It covers the orders up
-- to the row in external_ids_upto; the program keeps the entries of newer ones in a memtable and merges them many at a
-- time, because their keys arrive in random order and each would change a page of its own.
CREATE TABLE external_ids (
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE external_ids_upto (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO external_ids_upto (seq) VALUES (0);

-- The outbox: orders that the worker has not processed yet. It is nearly always nearly empty.
CREATE INDEX orders_pending ON orders (updated_at) WHERE processed_version < version;
