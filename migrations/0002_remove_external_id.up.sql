-- Drops the column of the external id, with its indexes: the payload has the external id.
ALTER TABLE orders DROP COLUMN IF EXISTS external_id;
