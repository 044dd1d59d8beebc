-- identity: what a delta is called by, whoever has signed it; empty for those that came before it was kept. A round has room for one.
ALTER TABLE uploads ADD COLUMN identity TEXT NOT NULL DEFAULT '';
CREATE INDEX uploads_by_identity ON uploads (identity, channel, round);
