-- The dead letters of processes that share this database without a broker. Changes no other table, and the previous
-- release can work with it. May be applied again.

-- Records that no worker could process. They are kept for ever: an operator decides about them.
CREATE TABLE IF NOT EXISTS orders_dead_letters (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kept_at          timestamptz NOT NULL DEFAULT now(),
    reason           text        NOT NULL,
    -- The source of the record, and when it was created. A process counts the offsets of its own events from 0.
    source_topic     text        NOT NULL,
    source_partition integer     NOT NULL,
    source_offset    bigint      NOT NULL,
    source_timestamp timestamptz NOT NULL,
    -- The record. The n-th name belongs to the n-th value.
    key              bytea,
    header_names     text[]      NOT NULL,
    header_values    bytea[]     NOT NULL,
    value            bytea       NOT NULL,
    -- The length of the value, where only its beginning is kept.
    cut_from         bigint
);

INSERT INTO orders_expansions (version) VALUES (8) ON CONFLICT DO NOTHING;
