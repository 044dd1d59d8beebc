-- stored: whether the delta's bytes are still kept; they go when the round that they count in is long over.
ALTER TABLE uploads ADD COLUMN stored BIGINT NOT NULL DEFAULT 1;
CREATE INDEX uploads_stored ON uploads (stored, channel, round);
CREATE INDEX uploads_by_state ON uploads (state, changed_ms);
CREATE INDEX audit_by_what ON audit (what, at_ms);
