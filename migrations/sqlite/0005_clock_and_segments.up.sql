-- Jumps of the clock, and an index of orders in segments. Leaves every order as it is.

-- How far the clock went ahead while hardly any time passed, in microseconds, and its time right after that. What is
-- kept for a time is not older by it.
CREATE TABLE clock_jumps (
    at INTEGER PRIMARY KEY,
    by INTEGER NOT NULL
) STRICT;

-- The index of orders by user, and by user and external id, made like external_ids: of orders above the one that
-- external_ids_upto names at this moment, which stays as it is from now on. The upper bits of `key` are those of
-- `seq`, so that orders of one age stand together.
CREATE TABLE order_entries (
    key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE order_entries_upto (
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO order_entries_upto (seq) SELECT seq FROM external_ids_upto;
