//! Channels: what devices use now, the round that is open, and who is combining one that has closed.

use super::rollouts::{BEGIN_ROLLOUT, begun};
use super::states::{RolloutState, RoundState, state};
use super::{Db, Result};
use sqlx::{AssertSqlSafe, Row};

/// A channel and its current release.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Hash of the base.
    pub base: String,
    /// BLAKE3 of the adapter's bytes.
    pub adapter: String,
    /// The adapter's bytes.
    pub length: i64,
    /// Counts the releases.
    pub version: i64,
    /// The round that is open, or being combined.
    pub round: i64,
    /// How far that round is.
    pub state: RoundState,
    /// How deltas are combined.
    pub rule: String,
    /// Why the last round came to nothing, or the last release was taken back; empty otherwise.
    pub problem: String,
    /// Stages of a rollout, as a text.
    pub stages: String,
    /// How long a stage lasts at least, in milliseconds.
    pub stage_ms: i64,
    /// Reports that the next stage waits for.
    pub stage_reports: i64,
    /// Share of the devices that may refuse a release.
    pub tolerated: f64,
    /// How far the newest release is.
    pub rollout: RolloutState,
    /// The stage, from 0.
    pub stage: i64,
    /// When that began.
    pub stage_began_ms: i64,
    /// The version of those that are not offered the newest.
    pub previous: i64,
    /// Whether new releases are held.
    pub pinned: bool,
}

/// All channels.
pub type Channels = Vec<Channel>;

/// A round that this replica combines.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// The channel as it was when the round was claimed.
    pub channel: Channel,
    /// What the claim is called.
    pub claim: String,
}

/// What comes out of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelease {
    /// BLAKE3 of the adapter's bytes.
    pub adapter: String,
    /// Its bytes.
    pub length: i64,
    /// Devices whose deltas are in it.
    pub devices: i64,
}

pub(super) const CHANNEL: &str = "SELECT name, base, adapter, length, version, round, state, rule, problem, stages, stage_ms, stage_reports, \
                       tolerated, rollout, stage, stage_began_ms, previous, pinned FROM channels";

pub(super) fn channel(row: &sqlx::any::AnyRow) -> Result<Channel> {
    Ok(Channel {
        name: row.try_get(0)?,
        base: row.try_get(1)?,
        adapter: row.try_get(2)?,
        length: row.try_get(3)?,
        version: row.try_get(4)?,
        round: row.try_get(5)?,
        state: state(row, 6)?,
        rule: row.try_get(7)?,
        problem: row.try_get(8)?,
        stages: row.try_get(9)?,
        stage_ms: row.try_get(10)?,
        stage_reports: row.try_get(11)?,
        tolerated: row.try_get(12)?,
        rollout: state(row, 13)?,
        stage: row.try_get(14)?,
        stage_began_ms: row.try_get(15)?,
        previous: row.try_get(16)?,
        pinned: row.try_get::<i64, _>(17)? != 0,
    })
}

impl Db {
    /// Makes a channel with its first release. Whether there was none of that name.
    pub async fn add_channel(&self, channel: &Channel, now_ms: i64) -> Result<bool> {
        let mut transaction = self.writer.begin().await?;
        let added = sqlx::query(
            "INSERT INTO channels (name, base, adapter, length, version, round, state, rule, stages, stage_ms, stage_reports, \
             tolerated) VALUES ($1, $2, $3, $4, 1, 1, 'open', $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(&channel.name)
        .bind(&channel.base)
        .bind(&channel.adapter)
        .bind(channel.length)
        .bind(&channel.rule)
        .bind(&channel.stages)
        .bind(channel.stage_ms)
        .bind(channel.stage_reports)
        .bind(channel.tolerated)
        .execute(&mut *transaction)
        .await?;
        if added.rows_affected() == 0 {
            return Ok(false);
        }
        let query = "INSERT INTO releases (channel, version, adapter, length, created_ms, devices) \
                     VALUES ($1, 1, $2, $3, $4, 0)";
        sqlx::query(query)
            .bind(&channel.name)
            .bind(&channel.adapter)
            .bind(channel.length)
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The channel of that name.
    pub async fn channel(&self, name: &str) -> Result<Option<Channel>> {
        let row = sqlx::query(AssertSqlSafe(format!("{CHANNEL} WHERE name = $1")))
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(channel).transpose()
    }

    /// All channels in the order of their names.
    pub async fn channels(&self) -> Result<Channels> {
        let rows = sqlx::query(AssertSqlSafe(format!("{CHANNEL} ORDER BY name"))).fetch_all(&self.pool).await?;
        rows.iter().map(channel).collect()
    }

    /// Closes the open round of a channel: no delta counts any more, and whoever claims it combines those that do.
    pub async fn close_round(&self, name: &str, round: i64) -> Result<bool> {
        let query = "UPDATE channels SET state = 'closing', problem = '', claimed_by = '', claimed_until_ms = 0 \
                     WHERE name = $1 AND round = $2 AND state = 'open'";
        let closed = sqlx::query(query).bind(name).bind(round).execute(&self.writer).await?;
        Ok(closed.rows_affected() == 1)
    }

    /// Claims a closed round that nobody is combining, until `until_ms`: then another replica may take it for dead.
    pub async fn claim_round(&self, claim: &str, now_ms: i64, until_ms: i64) -> Result<Option<Closing>> {
        let claimed = sqlx::query(
            "UPDATE channels SET claimed_by = $1, claimed_until_ms = $2 WHERE state = 'closing' AND claimed_until_ms < $3 \
             AND name = (SELECT name FROM channels WHERE state = 'closing' AND claimed_until_ms < $3 ORDER BY name LIMIT 1)",
        )
        .bind(claim)
        .bind(until_ms)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        if claimed.rows_affected() == 0 {
            return Ok(None);
        }
        let query = format!("{CHANNEL} WHERE claimed_by = $1 AND state = 'closing'");
        let row = sqlx::query(AssertSqlSafe(query)).bind(claim).fetch_optional(&self.pool).await?;
        let channel = row.as_ref().map(channel).transpose()?;
        Ok(channel.map(|channel| Closing { channel, claim: claim.into() }))
    }

    /// Holds a claim for longer. Whether it is still held.
    pub async fn hold_round(&self, claim: &str, until_ms: i64) -> Result<bool> {
        let query = "UPDATE channels SET claimed_until_ms = $1 WHERE claimed_by = $2 AND state = 'closing'";
        let held = sqlx::query(query).bind(until_ms).bind(claim).execute(&self.writer).await?;
        Ok(held.rows_affected() == 1)
    }

    /// A claimed round is done: its release is the channel's, and the next round is open; gives its version. None where the
    /// claim was not held any more: somebody else has done it, and nothing changes.
    pub async fn finish_round(&self, closing: &Closing, release: &NewRelease, now_ms: i64) -> Result<Option<i64>> {
        let mut transaction = self.writer.begin().await?;
        let query = format!(
            "UPDATE channels SET {BEGIN_ROLLOUT}, round = round + 1, state = 'open', claimed_by = '', claimed_until_ms = 0 \
             WHERE claimed_by = $4 AND state = 'closing'"
        );
        let finished = sqlx::query(AssertSqlSafe(query))
            .bind(&release.adapter)
            .bind(release.length)
            .bind(now_ms)
            .bind(&closing.claim)
            .execute(&mut *transaction)
            .await?;
        if finished.rows_affected() == 0 {
            return Ok(None);
        }
        let name = &closing.channel.name;
        let version = begun(&mut transaction, name, release, now_ms).await?;
        transaction.commit().await?;
        Ok(Some(version))
    }

    /// A claimed round comes to nothing: it is open again, and says why.
    pub async fn reopen_round(&self, closing: &Closing, problem: &str) -> Result<()> {
        sqlx::query(
            "UPDATE channels SET state = 'open', problem = $1, claimed_by = '', claimed_until_ms = 0 \
             WHERE claimed_by = $2 AND state = 'closing'",
        )
        .bind(problem)
        .bind(&closing.claim)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Bytes of an adapter that is or was a release of any channel.
    pub async fn released(&self, adapter: &str) -> Result<Option<i64>> {
        let query = "SELECT length FROM releases WHERE adapter = $1 LIMIT 1";
        let row = sqlx::query(query).bind(adapter).fetch_optional(&self.pool).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }
}
