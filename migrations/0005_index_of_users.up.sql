-- An index for lists of a user's orders. Changes no order. May be applied again; by hand best in one transaction
-- (psql -1 -f).

-- The condition holds for every order in a list, and keeps the planner from using the index to find an order by its id:
-- in an empty table all indexes look equally good.
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, created_at, order_id) WHERE created_at IS NOT NULL;

-- The same index without the condition, from databases of early builds.
DROP INDEX IF EXISTS orders_user;

INSERT INTO orders_migrations (version) VALUES (5) ON CONFLICT DO NOTHING;

ANALYZE orders;
