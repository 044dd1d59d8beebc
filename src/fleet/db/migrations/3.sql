-- The dashboard: who may see it, and where they are signed in. Secrets are here as BLAKE3 hashes alone.

-- role: viewer or operator.
CREATE TABLE access (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL DEFAULT 0
);

-- access: the row above that was signed in with; empty for the token of the server's first start.
CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    access TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX sessions_by_access ON sessions (access);
CREATE INDEX sessions_by_end ON sessions (expires_ms);

-- What pages list, in the order in which they list it.
CREATE INDEX devices_seen ON devices (revoked_ms, last_ms);
CREATE INDEX devices_in_order ON devices (name, key);
CREATE INDEX uploads_by_device ON uploads (device, changed_ms, hash);
CREATE INDEX uploads_in_order ON uploads (channel, round, state, changed_ms, hash, device);
CREATE INDEX reports_by_release ON reports (channel, version);
CREATE INDEX reports_by_time ON reports (at_ms);
CREATE INDEX audit_by_who ON audit (who, at_ms, id);
