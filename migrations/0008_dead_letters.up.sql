-- The dead letters of processes that share this database without a broker. Leaves every other table as it is, and the
-- release before works beside it. May be applied again.

-- A record that no worker could deal with, for ever: what to do about it is an operator's decision.
CREATE TABLE IF NOT EXISTS orders_dead_letters (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kept_at          timestamptz NOT NULL DEFAULT now(),
    reason           text        NOT NULL,
    -- Where the record came from, and when it was made. A process counts the offsets of its own events from 0.
    source_topic     text        NOT NULL,
    source_partition integer     NOT NULL,
    source_offset    bigint      NOT NULL,
    source_timestamp timestamptz NOT NULL,
    -- The record. The n-th name belongs to the n-th value.
    key              bytea,
    header_names     text[]      NOT NULL,
    header_values    bytea[]     NOT NULL,
    value            bytea       NOT NULL,
    -- How long the value was, where only its beginning is kept.
    cut_from         bigint
);

INSERT INTO orders_expansions (version) VALUES (8) ON CONFLICT DO NOTHING;
