-- The table that the baseline writes to: the same as after the service's migrations.
CREATE TABLE orders (
    order_id   uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    amount     numeric DEFAULT 0,
    status     varchar(32) NOT NULL,
    payload    jsonb,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    bucket     integer NOT NULL
) PARTITION BY HASH (order_id);

CREATE TABLE orders_p0 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 0);
CREATE TABLE orders_p1 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 1);
CREATE TABLE orders_p2 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 2);
CREATE TABLE orders_p3 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 3);

CREATE INDEX orders_status_idx ON orders (status);
CREATE INDEX orders_created_at_idx ON orders (created_at);
