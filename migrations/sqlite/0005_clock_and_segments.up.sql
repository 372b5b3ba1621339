-- Jumps of the clock, and an index of orders in key segments. Changes no order.

-- How far the clock jumped ahead while little time passed, in microseconds, and its time right after that. Retention
-- does not count jumps.
CREATE TABLE clock_jumps (
    at INTEGER PRIMARY KEY,
    by INTEGER NOT NULL
) STRICT;

-- The index of orders by user, and by user and external id, made like external_ids. It has the orders above the one in
-- external_ids_upto, which does not change any more. The upper bits of `key` are those of `seq`, so that orders of one
-- age are together.
CREATE TABLE order_entries (
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE order_entries_upto (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO order_entries_upto (seq) SELECT seq FROM external_ids_upto;
