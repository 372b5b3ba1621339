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
    -- Eight bytes of a digest of user and external id; NULL where there is no external id.
    external_key      INTEGER,
    payload           TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX orders_by_id ON orders (order_id);

-- The only index whose entries arrive in no order: its pages are most of what a write costs, so the key is short.
-- Entries of equal key lie in the order of seq, so the newest order is the last one.
CREATE INDEX orders_by_external ON orders (external_key) WHERE external_key IS NOT NULL;

-- The outbox: what the worker has not dealt with. Nearly always nearly empty.
CREATE INDEX orders_pending ON orders (updated_at) WHERE processed_version < version;
