//! Tokens and devices: who may ask.

use super::{Db, Result};
use sqlx::{AssertSqlSafe, Row};

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

/// A device that wants to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer<'a> {
    /// Hash of the token.
    pub token: &'a str,
    /// Its key.
    pub key: &'a str,
    /// What it is to be called.
    pub name: &'a str,
    /// Whether it takes the place of a device of that name.
    pub replaces: bool,
    /// A key that has agreed to being replaced by it; empty where none has.
    pub consent: &'a str,
    /// The time of its request.
    pub time_ms: i64,
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// The device is known now (or was already by this token: its answer was lost), in place of that key where one had its name.
    Done(Option<String>),
    /// The token is none, was used by another key, or is too old.
    Token,
    /// The token was made for another name.
    Name(String),
    /// The key was revoked; a new one is needed.
    Revoked,
    /// Another device has the name.
    Taken,
    /// Another device has the name, and neither it nor the operator who made the token has agreed to its being replaced.
    Unasked,
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
    /// Keeps a one-time token, by its hash; for a device of that name alone, where `name` is not empty.
    pub async fn add_token(&self, hash: &str, name: &str, now_ms: i64, expires_ms: i64) -> Result<()> {
        sqlx::query("INSERT INTO tokens (hash, name, created_ms, expires_ms) VALUES ($1, $2, $3, $4)")
            .bind(hash)
            .bind(name)
            .bind(now_ms)
            .bind(expires_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Uses a token up for a key, and lets the key in. Another key of the same name stands in the way, or is shut out where the new one may
    /// take its place.
    pub async fn enrol(&self, newcomer: &Newcomer<'_>, now_ms: i64) -> Result<Enrolment> {
        let Newcomer { token, key, name, replaces, consent, time_ms } = *newcomer;
        // Anybody can ask: what is no token takes no turn of those who write.
        let query = "SELECT name FROM tokens WHERE hash = $1 AND expires_ms > $2 AND (used_by = '' OR used_by = $3)";
        let known = sqlx::query(query).bind(token).bind(now_ms).bind(key).fetch_optional(&self.pool).await?;
        let Some(known) = known else { return Ok(Enrolment::Token) };
        let made_for: String = known.try_get(0)?;
        if !made_for.is_empty() && made_for != name {
            return Ok(Enrolment::Name(made_for));
        }
        // What is refused below is not committed, and uses no token up.
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
        // Of two that ask for one name at the same time, the second waits here until the first is in.
        sqlx::query("INSERT INTO names (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query("SELECT revoked_ms FROM devices WHERE key = $1")
            .bind(key)
            .fetch_optional(&mut *transaction)
            .await?;
        if row.map(|row| row.try_get::<i64, _>(0)).transpose()?.is_some_and(|revoked_ms| revoked_ms != 0) {
            return Ok(Enrolment::Revoked);
        }
        let query = "SELECT key FROM devices WHERE name = $1 AND key <> $2 AND revoked_ms = 0";
        let others = sqlx::query(query).bind(name).bind(key).fetch_all(&mut *transaction).await?;
        let others: Vec<String> = others.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
        if !others.is_empty() && !replaces {
            return Ok(Enrolment::Taken);
        }
        if !others.iter().all(|other| !made_for.is_empty() || other == consent) {
            return Ok(Enrolment::Unasked);
        }
        for other in &others {
            shut_out(&mut transaction, other, now_ms).await?;
        }
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
        transaction.commit().await?;
        Ok(Enrolment::Done(others.into_iter().next()))
    }

    /// The device of this key.
    pub async fn device(&self, key: &str) -> Result<Option<Device>> {
        let row =
            sqlx::query(AssertSqlSafe(format!("{DEVICE} WHERE key = $1"))).bind(key).fetch_optional(&self.pool).await?;
        row.as_ref().map(device).transpose()
    }

    /// Devices in the order of their keys, from behind `after`.
    pub async fn devices(&self, after: &str, count: i64) -> Result<Vec<Device>> {
        let query = format!("{DEVICE} WHERE key > $1 ORDER BY key LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(after).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(device).collect()
    }

    /// Shuts a device out, at once and for ever; what it has sent in rounds that are open does not count.
    pub async fn revoke(&self, key: &str, now_ms: i64) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let revoked = shut_out(&mut transaction, key, now_ms).await?;
        transaction.commit().await?;
        Ok(revoked)
    }
}

/// Revokes a key, and takes what it has sent out of rounds that are not over. Whether it was in.
async fn shut_out(transaction: &mut sqlx::Transaction<'_, sqlx::Any>, key: &str, now_ms: i64) -> Result<bool> {
    let query = "UPDATE devices SET revoked_ms = $1 WHERE key = $2 AND revoked_ms = 0";
    let revoked = sqlx::query(query).bind(now_ms).bind(key).execute(&mut **transaction).await?;
    // What counted in a round that is over stays as it was.
    let query = "UPDATE uploads SET state = 'refused' WHERE device = $1 AND (state = 'receiving' OR (state = 'accepted' \
                 AND round = (SELECT channels.round FROM channels WHERE channels.name = uploads.channel)))";
    sqlx::query(query).bind(key).execute(&mut **transaction).await?;
    Ok(revoked.rows_affected() == 1)
}
