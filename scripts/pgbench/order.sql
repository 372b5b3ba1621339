-- One order of a straightforward service: store it, then mark it processed; two commits, no HTTP, no broker. The client
-- makes the id, 126 random bits, so both statements name the same row.
\set hi random(0, 9223372036854775806)
\set lo random(0, 9223372036854775806)
\set user random(1, 100000)
INSERT INTO orders (order_id, user_id, amount, status, payload, created_at, updated_at, bucket)
VALUES ((lpad(to_hex(:hi::bigint), 16, '0') || lpad(to_hex(:lo::bigint), 16, '0'))::uuid,
    lpad(to_hex(:user::bigint), 32, '0')::uuid, 0, 'new',
    ('{"id": "ext-' || :lo::text || '", "items": [{"sku": "A-1001", "price": 12.50, "qty": 2}, '
    '{"sku": "B-2002", "price": 3.99, "qty": 1}]}')::jsonb,
    now(), now(), :lo::bigint % 4);
UPDATE orders SET status = 'done', amount = 28.99, updated_at = now()
WHERE order_id = (lpad(to_hex(:hi::bigint), 16, '0') || lpad(to_hex(:lo::bigint), 16, '0'))::uuid;
