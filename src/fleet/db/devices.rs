//! Tokens and devices: who may ask.

use super::{Db, Result};
use sqlx::Row;

/// A device as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its public key in hexadecimal digits.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// When it enrolled, in milliseconds since 1970.
    pub enrolled_ms: i64,
    /// When it was revoked; 0: it was not.
    pub revoked_ms: i64,
    /// Time of its last request that counted.
    pub last_ms: i64,
}

/// What became of an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The device is known now (or was already by this token: its answer was lost).
    Done,
    /// The token is none, was used by another key, or is too old.
    Token,
    /// The key was revoked; a new one is needed.
    Revoked,
}

pub(super) const DEVICE: &str = "SELECT key, name, enrolled_ms, revoked_ms, last_ms FROM devices";

pub(super) fn device(row: &sqlx::any::AnyRow) -> Result<Device> {
    Ok(Device {
        key: row.try_get(0)?,
        name: row.try_get(1)?,
        enrolled_ms: row.try_get(2)?,
        revoked_ms: row.try_get(3)?,
        last_ms: row.try_get(4)?,
    })
}

impl Db {
    /// Keeps a one-time token, by its hash.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_token(&self, hash: &str, now_ms: i64, expires_ms: i64) -> Result<()> {
        sqlx::query("INSERT INTO tokens (hash, created_ms, expires_ms) VALUES ($1, $2, $3)")
            .bind(hash)
            .bind(now_ms)
            .bind(expires_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Uses a token up for a key, and lets the key in; another key of the same name is revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn enrol(&self, token: &str, key: &str, name: &str, time_ms: i64, now_ms: i64) -> Result<Enrolment> {
        let mut transaction = self.writer.begin().await?;
        let used = sqlx::query(
            "UPDATE tokens SET used_by = $1 WHERE hash = $2 AND expires_ms > $3 AND (used_by = '' OR used_by = $1)",
        )
        .bind(key)
        .bind(token)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(Enrolment::Token);
        }
        sqlx::query("UPDATE devices SET revoked_ms = $1 WHERE name = $2 AND key <> $3 AND revoked_ms = 0")
            .bind(now_ms)
            .bind(name)
            .bind(key)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO devices (key, name, enrolled_ms, last_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (key) DO UPDATE SET name = $2, last_ms = CASE WHEN devices.last_ms < $4 THEN $4 ELSE devices.last_ms END",
        )
        .bind(key)
        .bind(name)
        .bind(now_ms)
        .bind(time_ms)
        .execute(&mut *transaction)
        .await?;
        let row =
            sqlx::query("SELECT revoked_ms FROM devices WHERE key = $1").bind(key).fetch_one(&mut *transaction).await?;
        if row.try_get::<i64, _>(0)? != 0 {
            // The transaction is not committed: a revoked key uses no token up.
            return Ok(Enrolment::Revoked);
        }
        transaction.commit().await?;
        Ok(Enrolment::Done)
    }

    /// The device of this key.
    ///
    /// # Errors
    /// The database's.
    pub async fn device(&self, key: &str) -> Result<Option<Device>> {
        let row = sqlx::query(&format!("{DEVICE} WHERE key = $1")).bind(key).fetch_optional(&self.pool).await?;
        row.as_ref().map(device).transpose()
    }

    /// Devices in the order of their keys, from behind `after`.
    ///
    /// # Errors
    /// The database's.
    pub async fn devices(&self, after: &str, count: i64) -> Result<Vec<Device>> {
        let query = format!("{DEVICE} WHERE key > $1 ORDER BY key LIMIT $2");
        let rows = sqlx::query(&query).bind(after).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(device).collect()
    }

    /// Shuts a device out, at once and for ever; what it has sent in rounds that are open does not count.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke(&self, key: &str, now_ms: i64) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let revoked = sqlx::query("UPDATE devices SET revoked_ms = $1 WHERE key = $2 AND revoked_ms = 0")
            .bind(now_ms)
            .bind(key)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE uploads SET state = 'refused' WHERE device = $1 AND state IN ('accepted', 'receiving')")
            .bind(key)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(revoked.rows_affected() == 1)
    }
}
