-- The external id is found in the payload; its column goes, and every index over it goes with it.
ALTER TABLE orders DROP COLUMN IF EXISTS external_id;
