-- The orders, in four partitions by the hash of their id. Drops nothing.
CREATE TABLE IF NOT EXISTS orders (
    order_id    uuid        PRIMARY KEY,
    user_id     uuid        NOT NULL,
    external_id text        NOT NULL,
    amount      numeric     DEFAULT 0,
    status      varchar(32) NOT NULL,
    payload     jsonb,
    created_at  timestamptz DEFAULT now(),
    updated_at  timestamptz DEFAULT now(),
    bucket      integer     NOT NULL
) PARTITION BY HASH (order_id);

CREATE TABLE IF NOT EXISTS orders_p0 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE IF NOT EXISTS orders_p1 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE IF NOT EXISTS orders_p2 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE IF NOT EXISTS orders_p3 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 3);

CREATE INDEX IF NOT EXISTS idx_orders_external_id ON orders (external_id);
CREATE INDEX IF NOT EXISTS idx_orders_status ON orders (status);
CREATE INDEX IF NOT EXISTS idx_orders_created_at ON orders (created_at);
