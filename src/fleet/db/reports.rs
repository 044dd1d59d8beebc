//! What devices say of releases.

use super::states::Word;
use super::{Db, Result};
use crate::sync::wire::ReleaseVerdict;

impl Db {
    /// Keeps what a device says of a release; the last word counts. Whether there is such a release.
    pub async fn report(
        &self,
        device: &str,
        channel: &str,
        version: i64,
        verdict: ReleaseVerdict,
        accuracy: Option<[f64; 2]>,
        now_ms: i64,
    ) -> Result<bool> {
        // Where there is no accuracy: a number that is none.
        let [before, after] = accuracy.unwrap_or([-1.0; 2]);
        let kept = sqlx::query(
            "INSERT INTO reports (device, channel, version, verdict, accuracy_before, accuracy_after, at_ms) \
             SELECT $1, channel, version, $4, $5, $6, $7 FROM releases WHERE channel = $2 AND version = $3 \
             ON CONFLICT (device, channel, version) DO UPDATE SET verdict = $4, accuracy_before = $5, \
             accuracy_after = $6, at_ms = $7",
        )
        .bind(device)
        .bind(channel)
        .bind(version)
        .bind(verdict.word())
        .bind(before)
        .bind(after)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(kept.rows_affected() == 1)
    }
}
