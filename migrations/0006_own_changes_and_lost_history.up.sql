-- When this program last changed an order, and how much of the history is no longer kept. Leaves every order as it is
-- read. May be applied again; by hand best in one transaction (psql -1 -f).

-- The time of the newest change by a command or its outcome. Where it is not updated_at, another service, or one of its
-- events, has changed the order since. No index covers it: the worker's update touches none.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS own_at timestamptz;

-- The place of the newest step of the history that was dropped: a reader that has come less far has lost some.
CREATE TABLE IF NOT EXISTS orders_history_dropped (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    place  bigint  NOT NULL,
    seq    bigint  NOT NULL
);
-- Before this table, nothing noted what was dropped: where the oldest step is not the first, something was before it.
INSERT INTO orders_history_dropped (place, seq)
SELECT coalesce(max(place), 0), coalesce(max(seq) - 1, 0)
  FROM (SELECT place, seq FROM orders_history ORDER BY place, seq LIMIT 1) AS oldest
 WHERE seq > 1
    ON CONFLICT DO NOTHING;

INSERT INTO orders_migrations (version) VALUES (6) ON CONFLICT DO NOTHING;

-- A plan for an empty table would be kept.
ANALYZE orders_history_dropped;
