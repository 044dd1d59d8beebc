//! What has happened, for people: lists a page at a time, newest first, and counts. Nothing here changes anything.

use super::channels::{CHANNEL, channel};
use super::devices::{DEVICE, device};
use super::states::{DeltaState, state};
use super::{Audited, Channels, Db, Device, Result};
use crate::sync::wire::ReleaseVerdict;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// Where a list that begins with the newest goes on: behind the line of that time and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In milliseconds since 1970.
    pub at_ms: i64,
    /// What tells lines of one millisecond apart.
    pub id: String,
}

impl Place {
    /// Before the newest.
    pub fn first() -> Self {
        Self { at_ms: i64::MAX, id: String::new() }
    }

    /// Hash and device of a delta that was sent.
    fn sent(&self) -> (&str, &str) {
        self.id.split_once('/').unwrap_or_default()
    }
}

/// A line of a list, and where the list goes on behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    /// The line.
    pub line: T,
    /// Its place.
    pub place: Place,
}

/// How many devices there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Devices that may send.
    pub enrolled: i64,
    /// Of those, how many have asked something since a moment.
    pub lately: i64,
    /// Devices that were shut out.
    pub revoked: i64,
}

/// A line of the audit log, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The line.
    pub audited: Audited,
    /// What people call the device that did it; empty where it was none.
    pub device: String,
}

/// What a device has said of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// The device's key.
    pub device: String,
    /// What people call it.
    pub name: String,
    /// The release's channel.
    pub channel: String,
    /// The release's version.
    pub version: i64,
    /// What the device says of the release.
    pub verdict: ReleaseVerdict,
    /// Part of the samples that were right before and after, where the device has measured it.
    pub accuracy: Option<[f64; 2]>,
    /// When it said so last.
    pub at_ms: i64,
}

/// A delta that a device has sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The device's key.
    pub device: String,
    /// What people call it.
    pub name: String,
    /// BLAKE3 of its bytes.
    pub hash: String,
    /// The channel that it is for.
    pub channel: String,
    /// Bytes in all.
    pub length: i64,
    /// Bytes that have come.
    pub received: i64,
    /// How far it is.
    pub state: DeltaState,
    /// The round that it counts in; 0: in none.
    pub round: i64,
    /// How much it counts.
    pub weight: f64,
    /// When that was last changed.
    pub changed_ms: i64,
}

/// What devices say of a release, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The release's version.
    pub version: i64,
    /// What the device says of the release.
    pub verdict: ReleaseVerdict,
    /// Devices that say so.
    pub devices: i64,
    /// Of those, how many have measured.
    pub measured: i64,
    /// Sums of what they have measured, before and after.
    pub sums: [f64; 2],
}

const REPORTED: &str = "SELECT reports.device, devices.name, channel, version, verdict, accuracy_before, accuracy_after, \
                        at_ms FROM reports JOIN devices ON devices.key = reports.device";
/// Tells the reports of one device and millisecond apart.
const REPORT_ID: &str = "(channel || '/' || CAST(version AS TEXT) || '/' || reports.device)";
const SENT: &str = "SELECT device, devices.name, hash, channel, length, received, state, round, weight, changed_ms \
                    FROM uploads JOIN devices ON devices.key = uploads.device";

fn reported(row: &AnyRow) -> Result<Kept<Reported>> {
    let [before, after]: [f64; 2] = [row.try_get(5)?, row.try_get(6)?];
    let line = Reported {
        device: row.try_get(0)?,
        name: row.try_get(1)?,
        channel: row.try_get(2)?,
        version: row.try_get(3)?,
        verdict: state(row, 4)?,
        accuracy: (before >= 0.0).then_some([before, after]),
        at_ms: row.try_get(7)?,
    };
    let place = Place { at_ms: line.at_ms, id: format!("{}/{}/{}", line.channel, line.version, line.device) };
    Ok(Kept { line, place })
}

fn sent(row: &AnyRow) -> Result<Kept<Sent>> {
    let line = Sent {
        device: row.try_get(0)?,
        name: row.try_get(1)?,
        hash: row.try_get(2)?,
        channel: row.try_get(3)?,
        length: row.try_get(4)?,
        received: row.try_get(5)?,
        state: state(row, 6)?,
        round: row.try_get(7)?,
        weight: row.try_get(8)?,
        changed_ms: row.try_get(9)?,
    };
    let place = Place { at_ms: line.changed_ms, id: format!("{}/{}", line.hash, line.device) };
    Ok(Kept { line, place })
}

impl Db {
    /// How many devices there are, and how many have asked something since `since_ms`.
    pub async fn devices_seen(&self, since_ms: i64) -> Result<Seen> {
        let query = "SELECT COUNT(CASE WHEN revoked_ms = 0 THEN 1 END), \
                     COUNT(CASE WHEN revoked_ms = 0 AND last_ms >= $1 THEN 1 END), \
                     COUNT(CASE WHEN revoked_ms <> 0 THEN 1 END) FROM devices";
        let row = sqlx::query(query).bind(since_ms).fetch_one(&self.pool).await?;
        Ok(Seen { enrolled: row.try_get(0)?, lately: row.try_get(1)?, revoked: row.try_get(2)? })
    }

    /// Devices in the order of their names, from behind the device of the key `after` (empty for the first), of those whose names
    /// contain `part`; upper and lower case of ASCII are one.
    pub async fn devices_named(&self, part: &str, after: &str, count: i64) -> Result<Vec<Device>> {
        let behind = match after.is_empty() {
            true => "$2 = ''",
            false => "(name, key) > (SELECT name, key FROM devices WHERE key = $2)",
        };
        let query = format!("{DEVICE} WHERE LOWER(name) LIKE $1 ESCAPE '!' AND {behind} ORDER BY name, key LIMIT $3");
        let rows =
            sqlx::query(AssertSqlSafe(query)).bind(pattern(part)).bind(after).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(device).collect()
    }

    /// The last report of each of these devices that has made one.
    pub async fn last_reports(&self, devices: &[Device]) -> Result<Vec<Reported>> {
        let query = format!("{REPORTED} WHERE reports.device = $1 ORDER BY at_ms DESC, {REPORT_ID} DESC LIMIT 1");
        let mut reports = Vec::new();
        for device in devices {
            let row = sqlx::query(AssertSqlSafe(query.as_str())).bind(&device.key).fetch_optional(&self.pool).await?;
            reports.extend(row.as_ref().map(reported).transpose()?.map(|kept| kept.line));
        }
        Ok(reports)
    }

    /// What a device has said of releases, the last word first, from behind `place`.
    pub async fn reports_of(&self, device: &str, place: &Place, count: i64) -> Result<Vec<Kept<Reported>>> {
        let query = format!(
            "{REPORTED} WHERE reports.device = $1 AND (at_ms, {REPORT_ID}) < ($2, $3) \
             ORDER BY at_ms DESC, {REPORT_ID} DESC LIMIT $4"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(device)
            .bind(place.at_ms)
            .bind(&place.id)
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(reported).collect()
    }

    /// What devices have said of a release, those that do not use it first.
    pub async fn reports_on(&self, channel: &str, version: i64, count: i64) -> Result<Vec<Reported>> {
        let query = format!(
            "{REPORTED} WHERE channel = $1 AND version = $2 \
             ORDER BY CASE verdict WHEN 'failed' THEN 0 WHEN 'rejected' THEN 1 ELSE 2 END, at_ms DESC LIMIT $3"
        );
        let rows =
            sqlx::query(AssertSqlSafe(query)).bind(channel).bind(version).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(|row| reported(row).map(|kept| kept.line)).collect()
    }

    /// The last reports of devices that do not use the release that they report on.
    pub async fn troubles(&self, count: i64) -> Result<Vec<Reported>> {
        let query = format!("{REPORTED} WHERE verdict IN ('rejected', 'failed') ORDER BY at_ms DESC LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(|row| reported(row).map(|kept| kept.line)).collect()
    }

    /// What devices say of a channel's releases from version `from` to `to`, counted.
    pub async fn outcomes(&self, channel: &str, from: i64, to: i64) -> Result<Vec<Outcome>> {
        let rows = sqlx::query(
            "SELECT version, verdict, COUNT(*), COUNT(CASE WHEN accuracy_before >= 0.0 THEN 1 END), \
             SUM(CASE WHEN accuracy_before >= 0.0 THEN accuracy_before ELSE 0.0 END), \
             SUM(CASE WHEN accuracy_before >= 0.0 THEN accuracy_after ELSE 0.0 END) \
             FROM reports WHERE channel = $1 AND version >= $2 AND version <= $3 \
             GROUP BY version, verdict ORDER BY version, verdict",
        )
        .bind(channel)
        .bind(from)
        .bind(to)
        .fetch_all(&self.pool)
        .await?;
        let outcome = |row: &AnyRow| {
            Ok(Outcome {
                version: row.try_get(0)?,
                verdict: state(row, 1)?,
                devices: row.try_get(2)?,
                measured: row.try_get(3)?,
                sums: [row.try_get(4)?, row.try_get(5)?],
            })
        };
        rows.iter().map(outcome).collect()
    }

    /// Deltas of a device, the last one that changed first, from behind `place`.
    pub async fn sent_by(&self, device: &str, place: &Place, count: i64) -> Result<Vec<Kept<Sent>>> {
        let query = format!(
            "{SENT} WHERE device = $1 AND (changed_ms, hash) < ($2, $3) ORDER BY changed_ms DESC, hash DESC LIMIT $4"
        );
        let (hash, _) = place.sent();
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(device)
            .bind(place.at_ms)
            .bind(hash)
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(sent).collect()
    }

    /// Deltas that count in a round, the last one first, from behind `place`.
    pub async fn sent_in(&self, channel: &str, round: i64, place: &Place, count: i64) -> Result<Vec<Kept<Sent>>> {
        let query = format!(
            "{SENT} WHERE channel = $1 AND round = $2 AND state = 'accepted' AND (changed_ms, hash, device) < ($3, $4, $5) \
             ORDER BY changed_ms DESC, hash DESC, device DESC LIMIT $6"
        );
        let (hash, device) = place.sent();
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(channel)
            .bind(round)
            .bind(place.at_ms)
            .bind(hash)
            .bind(device)
            .bind(count)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(sent).collect()
    }

    /// How many deltas count in a round.
    pub async fn count_in(&self, channel: &str, round: i64) -> Result<i64> {
        let query = "SELECT COUNT(*) FROM uploads WHERE channel = $1 AND round = $2 AND state = 'accepted'";
        Ok(sqlx::query(query).bind(channel).bind(round).fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// How many channels there are, and how many deltas count in their rounds.
    pub async fn channels_counted(&self) -> Result<[i64; 2]> {
        let channels = sqlx::query("SELECT COUNT(*) FROM channels").fetch_one(&self.pool).await?;
        let query = "SELECT COUNT(*) FROM channels JOIN uploads ON uploads.channel = channels.name \
                     AND uploads.round = channels.round AND uploads.state = 'accepted'";
        let deltas = sqlx::query(query).fetch_one(&self.pool).await?;
        Ok([channels.try_get(0)?, deltas.try_get(0)?])
    }

    /// Channels in the order of their names, from behind `after`.
    pub async fn channels_after(&self, after: &str, count: i64) -> Result<Channels> {
        let query = format!("{CHANNEL} WHERE name > $1 ORDER BY name LIMIT $2");
        let rows = sqlx::query(AssertSqlSafe(query)).bind(after).bind(count).fetch_all(&self.pool).await?;
        rows.iter().map(channel).collect()
    }

    /// Lines of the audit log, newest first, from behind `place`; of one `who`, where it is not empty.
    pub async fn audited_by(&self, who: &str, place: &Place, count: i64) -> Result<Vec<Kept<Logged>>> {
        // Two queries, so that each has an index that it follows.
        let of_one = if who.is_empty() { "$4 = ''" } else { "who = $4" };
        let query = format!(
            "SELECT at_ms, id, who, what, detail, COALESCE(devices.name, '') \
             FROM audit LEFT JOIN devices ON devices.key = who WHERE (at_ms, id) < ($1, $2) AND {of_one} \
             ORDER BY at_ms DESC, id DESC LIMIT $3"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(place.at_ms)
            .bind(&place.id)
            .bind(count)
            .bind(who)
            .fetch_all(&self.pool)
            .await?;
        let line = |row: &AnyRow| {
            let place = Place { at_ms: row.try_get(0)?, id: row.try_get(1)? };
            let (who, what, detail) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let audited = Audited { at_ms: place.at_ms, who, what, detail };
            Ok(Kept { line: Logged { audited, device: row.try_get(5)? }, place })
        };
        rows.iter().map(line).collect()
    }
}

/// What `LIKE` takes for texts that contain `part`, whatever signs it is made of.
fn pattern(part: &str) -> String {
    let mut pattern = String::from("%");
    for sign in part.chars() {
        if ['%', '_', '!'].contains(&sign) {
            pattern.push('!');
        }
        pattern.push(sign.to_ascii_lowercase());
    }
    pattern + "%"
}
