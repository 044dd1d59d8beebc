//! Rollouts: how far a channel's newest release is, what devices have said of it, and the steps that replicas take, each of
//! which changes a row only as long as that is as expected.

use super::states::{ReleaseState, RolloutState, Word, state};
use super::{Channel, Db, NewRelease, Result};
use crate::sync::wire::ReleaseVerdict;
use sqlx::{AssertSqlSafe, Row};

/// A release of a channel, past or present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Counts the channel's releases.
    pub version: i64,
    /// BLAKE3 of the adapter's bytes.
    pub adapter: String,
    /// Its bytes.
    pub length: i64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
    /// Devices whose deltas are in it; 0 for an operator's.
    pub devices: i64,
    /// What has become of it.
    pub state: ReleaseState,
    /// Why it was halted; empty otherwise.
    pub reason: String,
}

/// What one device said of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The device's key.
    pub device: String,
    /// Whether it is in use there; none where the device's own adapter stays.
    pub activated: Option<bool>,
    /// Part of the held-out samples that were right before and with it.
    pub accuracy: Option<[f64; 2]>,
}

const RELEASED: &str = "SELECT version, adapter, length, created_ms, devices, outcome, reason FROM releases";

fn released(row: &sqlx::any::AnyRow) -> Result<Version> {
    Ok(Version {
        version: row.try_get(0)?,
        adapter: row.try_get(1)?,
        length: row.try_get(2)?,
        created_ms: row.try_get(3)?,
        devices: row.try_get(4)?,
        state: state(row, 5)?,
        reason: row.try_get(6)?,
    })
}

impl Db {
    /// One release of a channel.
    pub async fn release(&self, channel: &str, version: i64) -> Result<Option<Version>> {
        let query = format!("{RELEASED} WHERE channel = $1 AND version = $2");
        let row = sqlx::query(AssertSqlSafe(query)).bind(channel).bind(version).fetch_optional(&self.pool).await?;
        row.as_ref().map(released).transpose()
    }

    /// The last release that all devices had before they were given what they have; what was halted, here or under another number, is none.
    pub async fn release_before(&self, channel: &Channel) -> Result<Option<Version>> {
        let query = format!(
            "{RELEASED} WHERE channel = $1 AND outcome IN ('done', 'back') \
             AND version < (SELECT MIN(version) FROM releases WHERE channel = $1 AND adapter = $2) \
             AND adapter NOT IN (SELECT adapter FROM releases WHERE channel = $1 AND outcome = 'halted') \
             ORDER BY version DESC LIMIT 1"
        );
        let row = sqlx::query(AssertSqlSafe(query))
            .bind(&channel.name)
            .bind(&channel.adapter)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(released).transpose()
    }

    /// The last releases of a channel before version `before`, newest first.
    pub async fn releases(&self, channel: &str, before: i64, count: i64) -> Result<Vec<Version>> {
        let query = format!("{RELEASED} WHERE channel = $1 AND version < $2 ORDER BY version DESC LIMIT $3");
        let rows =
            sqlx::query(AssertSqlSafe(query)).bind(channel).bind(before).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(released).collect()
    }

    /// What devices that are still enrolled have said of a release.
    pub async fn reported(&self, channel: &str, version: i64) -> Result<Vec<Vote>> {
        let rows = sqlx::query(
            "SELECT r.device, r.verdict, r.accuracy_before, r.accuracy_after FROM reports r JOIN devices d ON d.key = r.device \
             WHERE r.channel = $1 AND r.version = $2 AND d.revoked_ms = 0",
        )
        .bind(channel)
        .bind(version)
        .fetch_all(&self.pool)
        .await?;
        let reported = |row: &sqlx::any::AnyRow| {
            let (verdict, accuracy): (ReleaseVerdict, [f64; 2]) = (state(row, 1)?, [row.try_get(2)?, row.try_get(3)?]);
            let accuracy = Some(accuracy).filter(|[before, _]| *before >= 0.0);
            Ok(Vote {
                device: row.try_get(0)?,
                activated: (verdict != ReleaseVerdict::Kept).then_some(verdict == ReleaseVerdict::Activated),
                accuracy,
            })
        };
        rows.iter().map(reported).collect()
    }

    /// The next stage begins. Whether the rollout was still where `channel` says.
    pub async fn advance_rollout(&self, channel: &Channel, now_ms: i64) -> Result<bool> {
        let query = "UPDATE channels SET stage = stage + 1, stage_began_ms = $1 \
                     WHERE name = $2 AND version = $3 AND stage = $4 AND rollout IN ('rolling', 'paused')";
        let done = sqlx::query(query)
            .bind(now_ms)
            .bind(&channel.name)
            .bind(channel.version)
            .bind(channel.stage)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Turns a rollout from one state into another. Whether it was in that state.
    pub async fn turn_rollout(
        &self,
        channel: &Channel,
        from: RolloutState,
        to: RolloutState,
        now_ms: i64,
    ) -> Result<bool> {
        let query =
            "UPDATE channels SET rollout = $1, stage_began_ms = $2 WHERE name = $3 AND version = $4 AND rollout = $5";
        let turned = sqlx::query(query)
            .bind(to.word())
            .bind(now_ms)
            .bind(&channel.name)
            .bind(channel.version)
            .bind(from.word())
            .execute(&self.writer)
            .await?;
        Ok(turned.rows_affected() == 1)
    }

    /// All devices have the newest release, and it stays. Whether it was still being rolled out.
    pub async fn finish_rollout(&self, channel: &Channel) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let query = "UPDATE channels SET rollout = 'done', previous = version \
                     WHERE name = $1 AND version = $2 AND rollout <> 'done'";
        let done = sqlx::query(query).bind(&channel.name).bind(channel.version).execute(&mut *transaction).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        became(&mut transaction, &channel.name, channel.version, ReleaseState::Done, "").await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Goes back to the adapter of an older release, under a new number and for all devices at once; `halted` says why the
    /// newest one is halted, where it is. Whether the channel was still as given.
    pub async fn go_back(&self, channel: &Channel, to: &Version, halted: Option<&str>, now_ms: i64) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let query = "UPDATE channels SET version = version + 1, adapter = $1, length = $2, rollout = 'done', stage = 0, \
                     previous = version + 1, problem = $3 WHERE name = $4 AND version = $5 AND rollout = $6";
        let gone = sqlx::query(query)
            .bind(&to.adapter)
            .bind(to.length)
            .bind(halted.unwrap_or(""))
            .bind(&channel.name)
            .bind(channel.version)
            .bind(channel.rollout.word())
            .execute(&mut *transaction)
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(reason) = halted {
            became(&mut transaction, &channel.name, channel.version, ReleaseState::Halted, reason).await?;
        } else if channel.rollout != RolloutState::Done {
            became(&mut transaction, &channel.name, channel.version, ReleaseState::Replaced, "").await?;
        }
        let release = NewRelease { adapter: to.adapter.clone(), length: to.length, devices: to.devices };
        insert(&mut transaction, &channel.name, channel.version + 1, &release, ReleaseState::Back, now_ms).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// A new release of an operator's, which is rolled out like a round's; gives its version. None where the channel was not as given
    /// any more.
    pub async fn publish(&self, channel: &Channel, release: &NewRelease, now_ms: i64) -> Result<Option<i64>> {
        let mut transaction = self.writer.begin().await?;
        let query = format!("UPDATE channels SET {BEGIN_ROLLOUT} WHERE name = $4 AND version = $5 AND state = 'open'");
        let published = sqlx::query(AssertSqlSafe(query))
            .bind(&release.adapter)
            .bind(release.length)
            .bind(now_ms)
            .bind(&channel.name)
            .bind(channel.version)
            .execute(&mut *transaction)
            .await?;
        if published.rows_affected() == 0 {
            return Ok(None);
        }
        let version = begun(&mut transaction, &channel.name, release, now_ms).await?;
        transaction.commit().await?;
        Ok(Some(version))
    }

    /// Keeps the devices of a channel at what they have: new releases wait; or lets them go on.
    pub async fn pin(&self, name: &str, pinned: bool) -> Result<bool> {
        let query = "UPDATE channels SET pinned = $1 WHERE name = $2 AND pinned <> $1";
        let done = sqlx::query(query).bind(i64::from(pinned)).bind(name).execute(&self.writer).await?;
        Ok(done.rows_affected() == 1)
    }
}

/// What a channel becomes with a new release ($1 adapter, $2 length, $3 now): it is rolled out from the first stage, or held where
/// the channel is pinned. Where the one before has not come to all devices, what the others have takes a number between the two
/// ([`begun`]): nobody is ever offered a lower one than before.
pub(super) const BEGIN_ROLLOUT: &str = "adapter = $1, length = $2, stage = 0, stage_began_ms = $3, problem = '', \
     previous = CASE WHEN rollout = 'done' THEN version ELSE version + 1 END, \
     version = CASE WHEN rollout = 'done' THEN version + 1 ELSE version + 2 END, \
     rollout = CASE WHEN pinned = 1 THEN 'held' ELSE 'rolling' END";

/// The rows of a release that begins its rollout, in the transaction that changed the channel; gives its version.
pub(super) async fn begun(
    transaction: &mut sqlx::Transaction<'_, sqlx::Any>,
    channel: &str,
    release: &NewRelease,
    now_ms: i64,
) -> Result<i64> {
    let query = "UPDATE releases SET outcome = 'replaced' WHERE channel = $1 AND outcome = 'rolling'";
    sqlx::query(query).bind(channel).execute(&mut **transaction).await?;
    let query = "SELECT version FROM channels WHERE name = $1";
    let version: i64 = sqlx::query(query).bind(channel).fetch_one(&mut **transaction).await?.try_get(0)?;
    // The last that all devices had, under the number before, where that is not it already.
    let query = "INSERT INTO releases (channel, version, adapter, length, created_ms, devices, outcome) \
                 SELECT channel, $2, adapter, length, $3, devices, 'back' FROM releases WHERE channel = $1 AND version = \
                 (SELECT MAX(version) FROM releases WHERE channel = $1 AND outcome IN ('done', 'back')) \
                 ON CONFLICT DO NOTHING";
    sqlx::query(query).bind(channel).bind(version - 1).bind(now_ms).execute(&mut **transaction).await?;
    insert(transaction, channel, version, release, ReleaseState::Rolling, now_ms).await?;
    Ok(version)
}

async fn insert(
    transaction: &mut sqlx::Transaction<'_, sqlx::Any>,
    channel: &str,
    version: i64,
    release: &NewRelease,
    state: ReleaseState,
    now_ms: i64,
) -> Result<()> {
    let query = "INSERT INTO releases (channel, version, adapter, length, created_ms, devices, outcome) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(query)
        .bind(channel)
        .bind(version)
        .bind(&release.adapter)
        .bind(release.length)
        .bind(now_ms)
        .bind(release.devices)
        .bind(state.word())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Writes down what has become of a release, and why.
async fn became(
    transaction: &mut sqlx::Transaction<'_, sqlx::Any>,
    channel: &str,
    version: i64,
    state: ReleaseState,
    reason: &str,
) -> Result<()> {
    // A release that goes back stays one.
    let query =
        "UPDATE releases SET outcome = $1, reason = $2 WHERE channel = $3 AND version = $4 AND outcome <> 'back'";
    sqlx::query(query).bind(state.word()).bind(reason).bind(channel).bind(version).execute(&mut **transaction).await?;
    Ok(())
}
