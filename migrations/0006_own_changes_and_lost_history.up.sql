-- When this program last changed an order, and which history events were dropped. Orders read the same as before. May
-- be applied again; by hand best in one transaction (psql -1 -f).

-- The time of the newest change by a command or its outcome. Where it differs from updated_at, another service, or one
-- of its events, has changed the order since. No index covers it, so that the worker's update changes no index.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS own_at timestamptz;

-- The offset of the newest history event that was dropped: a reader at a lower offset has missed some.
CREATE TABLE IF NOT EXISTS orders_history_dropped (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    place  bigint  NOT NULL,
    seq    bigint  NOT NULL
);
-- Before this table, dropped events were not recorded: where the oldest event is not the first, earlier ones were
-- dropped.
INSERT INTO orders_history_dropped (place, seq)
SELECT coalesce(max(place), 0), coalesce(max(seq) - 1, 0)
  FROM (SELECT place, seq FROM orders_history ORDER BY place, seq LIMIT 1) AS oldest
 WHERE seq > 1
    ON CONFLICT DO NOTHING;

INSERT INTO orders_migrations (version) VALUES (6) ON CONFLICT DO NOTHING;

-- Without statistics, a plan for an empty table would stay in use.
ANALYZE orders_history_dropped;
