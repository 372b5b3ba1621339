-- Whether an event without a version, of another service, changed the order last: 1, or null. Changes no order.
ALTER TABLE orders ADD COLUMN touched INTEGER;
