-- Lists of a user's orders. Leaves every order as it is. May be applied again; by hand best in one transaction
-- (psql -1 -f).

-- The condition holds of every order in a list, and keeps the index away from statements that look for an order by its
-- id: as long as the table is empty, one index looks as good as another.
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, created_at, order_id) WHERE created_at IS NOT NULL;

-- The same without the condition, which databases of early builds have.
DROP INDEX IF EXISTS orders_user;

INSERT INTO orders_migrations (version) VALUES (5) ON CONFLICT DO NOTHING;

ANALYZE orders;
