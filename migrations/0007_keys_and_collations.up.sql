-- A primary key for the history, and an index of external ids that a change of the server's collations cannot damage.
-- Changes no order, and the previous release can work with it. May be applied again. By hand it blocks writers while it
-- builds the indexes; `orderstream migrate` does not.

-- A page of a history can begin within a version without reading earlier rows. And a table in a publication accepts
-- deletions only with a key that identifies its rows.
CREATE UNIQUE INDEX IF NOT EXISTS orders_history_pkey ON orders_history (order_id, version, place, seq);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'orders_history'::regclass AND contype = 'p') THEN
        ALTER TABLE orders_history ADD CONSTRAINT orders_history_pkey PRIMARY KEY USING INDEX orders_history_pkey;
    END IF;
END
$$;
-- The primary key begins with the same columns.
DROP INDEX IF EXISTS orders_history_order;

-- By external id, as bytes: the order of the database's own collation may change with its libraries. The previous
-- release uses orders_external_id, which stays for it; `orderstream migrate --finish` drops that index.
CREATE INDEX IF NOT EXISTS orders_by_external_id ON orders (left(payload ->> 'id', 500) COLLATE "C", user_id);

-- A ledger of migrations that the previous release can work with: it would refuse a higher number in the other ledger.
CREATE TABLE IF NOT EXISTS orders_expansions (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO orders_expansions (version) VALUES (7) ON CONFLICT DO NOTHING;

-- Without new statistics, a plan for other indexes would stay in use.
ANALYZE orders;
ANALYZE orders_history;
