-- Whether an event of a service that knows no versions changed the order last: 1, or null. Leaves every order as it is.
ALTER TABLE orders ADD COLUMN touched INTEGER;
