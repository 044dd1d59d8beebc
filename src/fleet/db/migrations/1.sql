-- The first tables. Only types that SQLite and PostgreSQL both have and mean alike: TEXT (hashes and keys as hexadecimal
-- digits), BIGINT (times in milliseconds since 1970, 0 for never) and DOUBLE PRECISION.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_by TEXT NOT NULL DEFAULT ''
);

-- last_ms: time of the last request that counted; it only grows, so no request counts twice.
CREATE TABLE devices (
    key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    enrolled_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL DEFAULT 0,
    last_ms BIGINT NOT NULL
);
CREATE INDEX devices_by_name ON devices (name);

CREATE TABLE channels (
    name TEXT PRIMARY KEY,
    base TEXT NOT NULL,
    adapter TEXT NOT NULL,
    length BIGINT NOT NULL,
    version BIGINT NOT NULL,
    round BIGINT NOT NULL,
    state TEXT NOT NULL,
    rule TEXT NOT NULL,
    claimed_by TEXT NOT NULL DEFAULT '',
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT ''
);

CREATE TABLE releases (
    channel TEXT NOT NULL,
    version BIGINT NOT NULL,
    adapter TEXT NOT NULL,
    length BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    PRIMARY KEY (channel, version)
);
CREATE INDEX releases_by_adapter ON releases (adapter);

-- state: receiving, accepted, superseded (a newer one of the device counts instead) or refused.
CREATE TABLE uploads (
    device TEXT NOT NULL,
    hash TEXT NOT NULL,
    channel TEXT NOT NULL,
    length BIGINT NOT NULL,
    received BIGINT NOT NULL,
    state TEXT NOT NULL,
    round BIGINT NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (device, hash)
);
CREATE INDEX uploads_by_round ON uploads (channel, round, state);

CREATE TABLE reports (
    device TEXT NOT NULL,
    channel TEXT NOT NULL,
    version BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    accuracy_before DOUBLE PRECISION NOT NULL,
    accuracy_after DOUBLE PRECISION NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (device, channel, version)
);

CREATE TABLE audit (
    at_ms BIGINT NOT NULL,
    id TEXT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (at_ms, id)
);
