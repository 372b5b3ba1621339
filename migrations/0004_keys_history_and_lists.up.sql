-- Keys of requests, the history, and times for lists of orders. Orders read the same as before. May be applied again;
-- by hand best in one transaction (psql -1 -f).

-- The outcomes of requests with a key. A key is valid while its row exists.
CREATE TABLE IF NOT EXISTS orders_keys (
    digest     uuid        PRIMARY KEY,
    content    uuid        NOT NULL,
    order_id   uuid        NOT NULL,
    version    bigint      NOT NULL,
    status     varchar(32) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS orders_keys_created_at ON orders_keys (created_at);

-- One row (history event) for each accepted command and each recorded outcome. Rows are added, never changed, and
-- dropped from the oldest on.
CREATE TABLE IF NOT EXISTS orders_history (
    -- The number of the transaction that wrote the row, or the place of the order's newest event where that is higher.
    -- Readers stop before the oldest transaction in progress: transactions commit in another order than they begin, and
    -- an event must not become visible at an offset that readers have passed.
    place    bigint      NOT NULL,
    -- Distinguishes the events of one place. Without a cache, so that it grows with each event of an order.
    seq      bigint      GENERATED ALWAYS AS IDENTITY,
    order_id uuid        NOT NULL,
    user_id  uuid        NOT NULL,
    version  bigint      NOT NULL,
    at       timestamptz NOT NULL,
    cause    varchar(32) NOT NULL,
    status   varchar(32) NOT NULL,
    amount   numeric,
    reason   text
);
-- Both indexes grow at their right end.
CREATE INDEX IF NOT EXISTS orders_history_place ON orders_history (place, seq);
CREATE INDEX IF NOT EXISTS orders_history_order ON orders_history (order_id, version);

-- Dead rows are only at the old end, where the retention job reads the next rows to drop.
ALTER TABLE orders_keys SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE orders_history SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.5);

-- The number that is added to a transaction's number to make a place, and the server for which it was chosen: a server
-- that restores a dump counts its transactions from another number, and places must keep growing.
CREATE TABLE IF NOT EXISTS orders_history_origin (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    origin  bigint  NOT NULL,
    -- The server's system identifier; unknown until `orderstream migrate` has stored it.
    cluster bigint
);
INSERT INTO orders_history_origin (origin) VALUES (0) ON CONFLICT DO NOTHING;

-- The place of an order's newest history event, if it has one.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS history_place bigint;

-- Lists are sorted by the time of creation. Where it is missing, reads have always used this value.
UPDATE orders SET created_at = coalesce(updated_at, 'epoch') WHERE created_at IS NULL;

INSERT INTO orders_migrations (version) VALUES (4) ON CONFLICT DO NOTHING;

-- Without statistics, a plan for an empty table would stay in use.
ANALYZE orders;
ANALYZE orders_keys;
ANALYZE orders_history;
ANALYZE orders_history_origin;
