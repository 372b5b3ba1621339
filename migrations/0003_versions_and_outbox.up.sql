-- Versions, the outbox, and the ledger of migrations. Adopts a table that another service created and filled: every
-- row stays, and counts as processed. May be applied again; by hand best in one transaction (psql -1 -f).

ALTER TABLE orders
    -- How many commands were accepted, and the newest one that the worker has applied. The default is for rows of
    -- services without versions.
    ADD COLUMN IF NOT EXISTS version           bigint NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS processed_version bigint NOT NULL DEFAULT 1,
    -- Time of the newest processed change: an event without a version applies only if it is newer.
    ADD COLUMN IF NOT EXISTS source_at         timestamptz,
    -- The version that the order had when an event without a version last changed its status: the worker has yet to
    -- process it. Where this is another version, a pending order with a final status was processed by another service.
    ADD COLUMN IF NOT EXISTS overtaken_version bigint,
    -- Set once, never cleared, so that a deleted order with another status is noticed.
    ADD COLUMN IF NOT EXISTS deleted_at        timestamptz,
    -- Why processing failed.
    ADD COLUMN IF NOT EXISTS reason            text;

UPDATE orders SET deleted_at = coalesce(updated_at, created_at, now())
 WHERE status = 'deleted' AND deleted_at IS NULL;

-- Versions that are committed and not confirmed by the broker yet. No payload: the event is made from the order.
CREATE TABLE IF NOT EXISTS orders_outbox (
    order_id      uuid        NOT NULL,
    version       bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- The end of the claim of the process that publishes the row.
    claimed_until timestamptz,
    PRIMARY KEY (order_id, version)
);

-- Rows exist for milliseconds: vacuum must remove dead ones soon, with a table of any size.
ALTER TABLE orders_outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2000000000
);

-- By external id. The first 500 characters are enough to find a few rows, and fit into an index page with a text of any
-- length.
CREATE INDEX IF NOT EXISTS orders_external_id ON orders (left(payload ->> 'id', 500), user_id);

-- Keeps the worker's update on its row's own page, without a change of an index (a HOT update): half of each page is
-- free, and no index covers a column that the update changes.
DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'orders'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (fillfactor = 50)', name);
    END LOOP;
    FOR name IN
        SELECT indexrelid FROM pg_index
         WHERE indrelid = 'orders'::regclass AND indnatts = 1 AND NOT indisunique
           AND indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'status')
    LOOP
        EXECUTE format('DROP INDEX %s', name);
    END LOOP;
END
$$;

-- The ledger: each file from here on records itself. The two before it are recognized by their tables and columns.
CREATE TABLE IF NOT EXISTS orders_migrations (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO orders_migrations (version) VALUES (1), (2), (3) ON CONFLICT DO NOTHING;

-- Without statistics, a plan for an empty table would stay in use.
ANALYZE orders;
ANALYZE orders_outbox;
