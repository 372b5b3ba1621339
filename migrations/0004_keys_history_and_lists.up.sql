-- Keys of requests, the history, and times for lists of orders. Leaves every order as it is read. May be applied
-- again; by hand best in one transaction (psql -1 -f).

-- What a request did that carried a key. A key is valid as long as its row is there.
CREATE TABLE IF NOT EXISTS orders_keys (
    digest     uuid        PRIMARY KEY,
    content    uuid        NOT NULL,
    order_id   uuid        NOT NULL,
    version    bigint      NOT NULL,
    status     varchar(32) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS orders_keys_created_at ON orders_keys (created_at);

-- One row for each command that was accepted and each outcome that was recorded. Rows are added, never changed, and
-- dropped from the oldest on.
CREATE TABLE IF NOT EXISTS orders_history (
    -- The number of the transaction that wrote the row, or of the newest step of the order where that is later. A
    -- reader goes no further than the oldest transaction that is still under way: they commit in another order than
    -- they begin, and nothing may appear behind a reader's back.
    place    bigint      NOT NULL,
    -- Tells apart the steps of one place. Without a cache, so that it grows from step to step of an order.
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
-- Both grow at their right end.
CREATE INDEX IF NOT EXISTS orders_history_place ON orders_history (place, seq);
CREATE INDEX IF NOT EXISTS orders_history_order ON orders_history (order_id, version);

-- Dead rows are found at the old end alone, where the next ones to drop are looked for.
ALTER TABLE orders_keys SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE orders_history SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.5);

-- What is added to a transaction's number to make a place, and the server for which it was chosen: one that takes
-- over a dump counts its transactions from another number, and places must go on growing.
CREATE TABLE IF NOT EXISTS orders_history_origin (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    origin  bigint  NOT NULL,
    -- The server's system identifier; unknown until `orderstream migrate` has noted it.
    cluster bigint
);
INSERT INTO orders_history_origin (origin) VALUES (0) ON CONFLICT DO NOTHING;

-- The place of an order's newest step, if it has one.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS history_place bigint;

-- Lists go by the time of creation. Where there is none, it has been read like this all along.
UPDATE orders SET created_at = coalesce(updated_at, 'epoch') WHERE created_at IS NULL;

INSERT INTO orders_migrations (version) VALUES (4) ON CONFLICT DO NOTHING;

-- A plan for an empty table would be kept.
ANALYZE orders;
ANALYZE orders_keys;
ANALYZE orders_history;
ANALYZE orders_history_origin;
