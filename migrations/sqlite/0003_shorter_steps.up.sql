-- History events name their order by its seq: that is shorter than its id and its user, and makes the index shorter.
-- Keeps every event, and its number.
DROP INDEX history_by_order;
ALTER TABLE history RENAME TO longer_history;

CREATE TABLE history (
    seq       INTEGER PRIMARY KEY,
    order_seq INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    -- c: a command, w: the worker, e: an event from outside.
    cause     TEXT    NOT NULL,
    status    TEXT    NOT NULL,
    amount    TEXT,
    reason    TEXT
) STRICT;

INSERT INTO history (seq, order_seq, version, at, cause, status, amount, reason)
SELECT h.seq, o.seq, h.version, h.at, h.cause, h.status, h.amount, h.reason
  FROM longer_history h JOIN orders o ON o.order_id = h.order_id
 ORDER BY h.seq;

DROP TABLE longer_history;

CREATE INDEX history_by_order ON history (order_seq, version);
