-- name: the device that the token was made for; empty for any whose name is free.
ALTER TABLE tokens ADD COLUMN name TEXT NOT NULL DEFAULT '';
-- Names that somebody has asked for: whoever enrols under one holds its row, so that two at once do not both find it free.
CREATE TABLE names (
    name TEXT PRIMARY KEY
);
