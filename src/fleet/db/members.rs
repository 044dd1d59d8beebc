//! Who takes part in a channel: devices that have asked for its release, sent it a delta or reported on one.

use super::{Db, Result};
use sqlx::Row;

impl Db {
    /// A device takes part in a channel from now on; again does nothing.
    pub async fn take_part(&self, channel: &str, device: &str, now_ms: i64) -> Result<()> {
        // Nearly all do already, and reading waits for nobody.
        let query = "SELECT 1 FROM members WHERE channel = $1 AND device = $2";
        if sqlx::query(query).bind(channel).bind(device).fetch_optional(&self.pool).await?.is_some() {
            return Ok(());
        }
        let query = "INSERT INTO members (channel, device, since_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        sqlx::query(query).bind(channel).bind(device).bind(now_ms).execute(&self.writer).await?;
        Ok(())
    }

    /// Keys of the devices that take part in a channel, are not revoked and have asked something since a moment.
    pub async fn members(&self, channel: &str, since_ms: i64) -> Result<Vec<String>> {
        let query = "SELECT devices.key FROM members JOIN devices ON devices.key = members.device \
                     WHERE members.channel = $1 AND devices.revoked_ms = 0 AND devices.last_ms >= $2";
        let rows = sqlx::query(query).bind(channel).bind(since_ms).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How many take part in it and are not revoked.
    pub async fn count_members(&self, channel: &str) -> Result<i64> {
        let query = "SELECT COUNT(*) FROM members JOIN devices ON devices.key = members.device \
                     WHERE members.channel = $1 AND devices.revoked_ms = 0";
        Ok(sqlx::query(query).bind(channel).fetch_one(&self.pool).await?.try_get(0)?)
    }
}
