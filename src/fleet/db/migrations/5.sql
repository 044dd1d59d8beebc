-- Devices that take part in a channel: they have asked for its release, sent it a delta or reported on a release. Those that only ask
-- were not written down before; they are when they next do.
CREATE TABLE members (
    channel TEXT NOT NULL,
    device TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (channel, device)
);
INSERT INTO members (channel, device, since_ms)
    SELECT channel, device, MIN(known_ms) FROM (
        SELECT channel, device, changed_ms AS known_ms FROM uploads
        UNION ALL SELECT channel, device, at_ms AS known_ms FROM reports
    ) AS known GROUP BY channel, device;
