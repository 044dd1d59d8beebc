//! Deltas on their way in, and those that count.

use super::states::{DeltaState, state};
use super::{Audited, Db, Result};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

/// An upload as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The channel that it is for.
    pub channel: String,
    /// Bytes in all.
    pub length: i64,
    /// Bytes that are stored.
    pub received: i64,
    /// How far it is.
    pub state: DeltaState,
}

/// All of a delta, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came<'a> {
    /// The device's key.
    pub device: &'a str,
    /// BLAKE3 of its bytes.
    pub hash: &'a str,
    /// The channel that it is for.
    pub channel: &'a str,
    /// Bytes in all.
    pub length: i64,
    /// When.
    pub at_ms: i64,
}

/// Where an upload's bytes lie: under its device, its hash and each offset of a chunk below its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    /// The device's key.
    pub device: String,
    /// BLAKE3 of the bytes.
    pub hash: String,
    /// Bytes in all, whether they have come or not.
    pub length: i64,
    /// When the upload last moved.
    pub changed_ms: i64,
}

const BYTES: &str = "SELECT uploads.device, uploads.hash, uploads.length, uploads.changed_ms FROM uploads";

pub(super) fn bytes(row: &sqlx::any::AnyRow) -> Result<Bytes> {
    let (device, hash) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Bytes { device, hash, length: row.try_get(2)?, changed_ms: row.try_get(3)? })
}

/// A delta that counts in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The device's key.
    pub device: String,
    /// BLAKE3 of its bytes.
    pub hash: String,
    /// Bytes in all.
    pub length: i64,
    /// How much it counts.
    pub weight: f64,
}

/// What a delta is worth in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// The round.
    pub round: i64,
    /// How much it counts.
    pub weight: f64,
    /// What it is called by, whoever has signed it.
    pub identity: String,
}

/// What became of a verified delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It counts.
    Counts,
    /// The same, signed by another device, counts already; that device's name.
    Twice(String),
    /// The round has closed, the device was revoked, or the delta counts, or was refused, already.
    Late,
}

impl Db {
    /// Begins an upload; one that has begun stays as it is.
    pub async fn begin_upload(
        &self,
        device: &str,
        hash: &str,
        channel: &str,
        length: i64,
        now_ms: i64,
    ) -> Result<Option<Upload>> {
        sqlx::query(
            "INSERT INTO uploads (device, hash, channel, length, received, state, round, weight, changed_ms) \
             VALUES ($1, $2, $3, $4, 0, 'receiving', 0, 0.0, $5) ON CONFLICT DO NOTHING",
        )
        .bind(device)
        .bind(hash)
        .bind(channel)
        .bind(length)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        self.upload(device, hash).await
    }

    /// The upload of a device under a hash.
    pub async fn upload(&self, device: &str, hash: &str) -> Result<Option<Upload>> {
        let query = "SELECT channel, length, received, state FROM uploads WHERE device = $1 AND hash = $2";
        let row = sqlx::query(query).bind(device).bind(hash).fetch_optional(&self.pool).await?;
        let upload = |row: sqlx::any::AnyRow| {
            Ok(Upload {
                channel: row.try_get(0)?,
                length: row.try_get(1)?,
                received: row.try_get(2)?,
                state: state(&row, 3)?,
            })
        };
        row.map(upload).transpose()
    }

    /// Uploads of a device that are on their way, the one that has rested longest first.
    pub async fn receiving(&self, device: &str) -> Result<Vec<Bytes>> {
        let query = format!("{BYTES} WHERE device = $1 AND state = 'receiving' ORDER BY changed_ms, hash");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(device).fetch_all(&self.pool).await?;
        rows.iter().map(bytes).collect()
    }

    /// Uploads on their way that have rested since before a moment, so many at most.
    pub async fn abandoned(&self, before_ms: i64, count: i64) -> Result<Vec<Bytes>> {
        let query = format!("{BYTES} WHERE state = 'receiving' AND changed_ms < $1 ORDER BY changed_ms LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(before_ms).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(bytes).collect()
    }

    /// Deltas whose bytes are kept and needed no more: those of rounds that ended more than `rounds` rounds ago, those that a newer
    /// one of their device has taken the place of, and those of devices that were shut out; so many at most.
    pub async fn spent(&self, rounds: i64, count: i64) -> Result<Vec<Bytes>> {
        let query = format!(
            "{BYTES} JOIN channels ON channels.name = uploads.channel WHERE uploads.stored = 1 \
             AND (uploads.state IN ('superseded', 'refused') \
             OR (uploads.state = 'accepted' AND uploads.round < channels.round - $1)) LIMIT $2"
        );
        let rows = sqlx::query(AssertSqlSafe(query)).bind(rounds).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(bytes).collect()
    }

    /// Forgets deltas from before a moment that did not come to count and whose bytes are gone, so many at most. Whether there may be
    /// more.
    pub async fn forget_uploads(&self, before_ms: i64, count: i64) -> Result<bool> {
        let query = "DELETE FROM uploads WHERE (device, hash) IN (SELECT device, hash FROM uploads \
                     WHERE state IN ('superseded', 'refused') AND changed_ms < $1 AND stored = 0 LIMIT $2)";
        let gone = sqlx::query(query).bind(before_ms).bind(count).execute(&self.writer).await?;
        Ok(gone.rows_affected() == count as u64)
    }

    /// The bytes of a delta are not kept any more.
    pub async fn not_stored(&self, device: &str, hash: &str) -> Result<()> {
        let query = "UPDATE uploads SET stored = 0 WHERE device = $1 AND hash = $2";
        sqlx::query(query).bind(device).bind(hash).execute(&self.writer).await?;
        Ok(())
    }

    /// An upload that is on its way, and has not moved, is none any more; it may begin again. Whether it was one.
    pub async fn give_up(&self, upload: &Bytes) -> Result<bool> {
        let query = "DELETE FROM uploads WHERE device = $1 AND hash = $2 AND state = 'receiving' AND changed_ms = $3";
        let query = sqlx::query(query).bind(&upload.device).bind(&upload.hash).bind(upload.changed_ms);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }

    /// A chunk is stored: goes from `received` bytes to `to`. Whether it was the next one.
    pub async fn received(&self, device: &str, hash: &str, received: i64, to: i64, now_ms: i64) -> Result<bool> {
        let changed = sqlx::query(
            "UPDATE uploads SET received = $1, changed_ms = $2 \
             WHERE device = $3 AND hash = $4 AND received = $5 AND state = 'receiving'",
        )
        .bind(to)
        .bind(now_ms)
        .bind(device)
        .bind(hash)
        .bind(received)
        .execute(&self.writer)
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// A delta was refused, and is not taken again.
    pub async fn refuse_upload(&self, came: &Came<'_>) -> Result<()> {
        sqlx::query(
            "INSERT INTO uploads (device, hash, channel, length, received, state, round, weight, changed_ms) \
             VALUES ($1, $2, $3, $4, 0, 'refused', 0, 0.0, $5) \
             ON CONFLICT (device, hash) DO UPDATE SET state = 'refused', changed_ms = excluded.changed_ms \
             WHERE uploads.state = 'receiving'",
        )
        .bind(came.device)
        .bind(came.hash)
        .bind(came.channel)
        .bind(came.length)
        .bind(came.at_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// A verified delta counts from now on, in place of what the device has sent in this round before, and the audit log says so.
    pub async fn accept_upload(
        &self,
        came: &Came<'_>,
        worth: &Worth,
        (line, id): (&Audited, &str),
    ) -> Result<Accepted> {
        let mut transaction = self.writer.begin().await?;
        // Touching the channel's row makes this wait for whoever closes the round or sends the same, or the other way round.
        let open = sqlx::query("UPDATE channels SET state = 'open' WHERE name = $1 AND round = $2 AND state = 'open'")
            .bind(came.channel)
            .bind(worth.round)
            .execute(&mut *transaction)
            .await?;
        if open.rows_affected() == 0 {
            return Ok(Accepted::Late);
        }
        if let Some(twin) = twin(&mut transaction, came, worth).await? {
            return Ok(Accepted::Twice(twin));
        }
        sqlx::query(
            "UPDATE uploads SET state = 'superseded' \
             WHERE device = $1 AND channel = $2 AND round = $3 AND state = 'accepted' AND hash <> $4",
        )
        .bind(came.device)
        .bind(came.channel)
        .bind(worth.round)
        .bind(came.hash)
        .execute(&mut *transaction)
        .await?;
        if !count(&mut transaction, came, worth).await? {
            return Ok(Accepted::Late);
        }
        super::insert_line(&mut transaction, line, id).await?;
        transaction.commit().await?;
        Ok(Accepted::Counts)
    }

    /// The deltas that count in a round, in one order.
    pub async fn counted(&self, channel: &str, round: i64) -> Result<Vec<Counted>> {
        let rows = sqlx::query(
            "SELECT device, hash, length, weight FROM uploads \
             WHERE channel = $1 AND round = $2 AND state = 'accepted' ORDER BY hash, device",
        )
        .bind(channel)
        .bind(round)
        .fetch_all(&self.pool)
        .await?;
        let counted = |row: &sqlx::any::AnyRow| {
            Ok(Counted {
                device: row.try_get(0)?,
                hash: row.try_get(1)?,
                length: row.try_get(2)?,
                weight: row.try_get(3)?,
            })
        };
        rows.iter().map(counted).collect()
    }
}

/// The name of another device whose delta of the round is the same.
async fn twin(connection: &mut AnyConnection, came: &Came<'_>, worth: &Worth) -> Result<Option<String>> {
    let query = "SELECT devices.name FROM uploads JOIN devices ON devices.key = uploads.device WHERE identity = $1 \
                 AND channel = $2 AND round = $3 AND state = 'accepted' AND device <> $4 LIMIT 1";
    let twin = sqlx::query(query)
        .bind(&worth.identity)
        .bind(came.channel)
        .bind(worth.round)
        .bind(came.device)
        .fetch_optional(connection)
        .await?;
    twin.map(|twin| Ok(twin.try_get(0)?)).transpose()
}

/// Writes that a delta counts. Whether it does: not if its device was revoked, or it counts, or was refused, already.
async fn count(connection: &mut AnyConnection, came: &Came<'_>, worth: &Worth) -> Result<bool> {
    let counted = sqlx::query(
        "INSERT INTO uploads (device, hash, channel, length, received, state, round, weight, changed_ms, identity) \
         SELECT key, $2, $3, $4, $4, 'accepted', $5, $6, $7, $8 FROM devices WHERE key = $1 AND revoked_ms = 0 \
         ON CONFLICT (device, hash) DO UPDATE SET state = 'accepted', received = excluded.received, \
         round = excluded.round, weight = excluded.weight, changed_ms = excluded.changed_ms, identity = excluded.identity \
         WHERE uploads.state = 'receiving' AND uploads.channel = excluded.channel",
    )
    .bind(came.device)
    .bind(came.hash)
    .bind(came.channel)
    .bind(came.length)
    .bind(worth.round)
    .bind(worth.weight)
    .bind(came.at_ms)
    .bind(&worth.identity)
    .execute(connection)
    .await?;
    Ok(counted.rows_affected() == 1)
}
