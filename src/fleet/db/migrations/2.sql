-- Staged rollouts. A channel's newest release is its version; while `rollout` is rolling, paused or held, only some of the devices
-- (none where held) are offered it, and the others `previous`, the last that went to all.
ALTER TABLE channels ADD COLUMN stages TEXT NOT NULL DEFAULT '100';
ALTER TABLE channels ADD COLUMN stage_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN stage_reports BIGINT NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN tolerated DOUBLE PRECISION NOT NULL DEFAULT 0.25;
ALTER TABLE channels ADD COLUMN rollout TEXT NOT NULL DEFAULT 'done';
ALTER TABLE channels ADD COLUMN stage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN stage_began_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN previous BIGINT NOT NULL DEFAULT 1;
ALTER TABLE channels ADD COLUMN pinned BIGINT NOT NULL DEFAULT 0;

-- outcome: rolling, done, halted, replaced (by a newer one before all had it) or back (an older adapter again).
ALTER TABLE releases ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done';
ALTER TABLE releases ADD COLUMN reason TEXT NOT NULL DEFAULT '';
