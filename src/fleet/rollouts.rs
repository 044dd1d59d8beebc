//! Rollouts in progress: looks at what devices have reported and takes the step that [`rollout::step`] says.
//!
//! Every replica looks; a step changes the channel only as long as it is as it was looked at, so it is taken once.

use super::db::{Channel, RolloutState, Version};
use super::rollout::{self, Rollout, Stages, Step, Tally, is_among};
use super::{Error, Fleet};

/// What an operator does to a channel's rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Take no further step; who has the release keeps it.
    Pause,
    /// Go on.
    Resume,
    /// Begin the next stage now, or finish behind the last.
    Advance,
    /// Give all devices the adapter of this version, or of the last release that all had before: never one that was halted.
    Rollback(Option<i64>),
    /// Hold new releases back.
    Pin,
    /// Let new releases go out, and one that was held begin.
    Unpin,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steered {
    /// It is done.
    Done,
    /// The channel has changed meanwhile, or is not in a state for it.
    Changed,
    /// There is no such version.
    NoVersion,
}

/// Does what an operator (`who`) wants, and writes it down.
pub async fn steer(fleet: &Fleet, channel: &Channel, act: Act, who: &str) -> Result<Steered, Error> {
    let (db, name, now_ms) = (&fleet.db, &channel.name, fleet.now_ms());
    let (what, done) = match act {
        Act::Pause => {
            ("rollout paused", db.turn_rollout(channel, RolloutState::Rolling, RolloutState::Paused, now_ms).await?)
        }
        Act::Resume => {
            ("rollout resumed", db.turn_rollout(channel, RolloutState::Paused, RolloutState::Rolling, now_ms).await?)
        }
        Act::Advance if channel.stage + 1 < stages(channel).count() => {
            ("rollout advanced", db.advance_rollout(channel, now_ms).await?)
        }
        Act::Advance => ("rollout finished", db.finish_rollout(channel).await?),
        Act::Pin => ("pinned", db.pin(name, true).await?),
        Act::Unpin => {
            let unpinned = db.pin(name, false).await?;
            db.turn_rollout(channel, RolloutState::Held, RolloutState::Rolling, now_ms).await?;
            ("unpinned", unpinned)
        }
        Act::Rollback(version) => {
            let to = match version {
                Some(version) => db.release(name, version).await?,
                None if channel.rollout == RolloutState::Done => db.release_before(channel).await?,
                None => db.release(name, channel.previous).await?,
            };
            let Some(to) = to else { return Ok(Steered::NoVersion) };
            let done = roll_back(fleet, channel, &to, None, who).await?;
            return Ok(if done { Steered::Done } else { Steered::Changed });
        }
    };
    if !done {
        return Ok(Steered::Changed);
    }
    fleet.audit(who, what, &format!("{name}: version {}", channel.version)).await;
    Ok(Steered::Done)
}
/// Looks at all channels once.
///
/// # Errors
/// The database fails; channels that were not looked at are looked at the next time.
pub async fn turn(fleet: &Fleet) -> Result<(), Error> {
    let is_rolling = |channel: &Channel| channel.rollout == RolloutState::Rolling;
    for channel in fleet.db.channels().await?.into_iter().filter(is_rolling) {
        take_step(fleet, &channel).await?;
    }
    Ok(())
}

/// The stages of a channel, as the database has them.
pub fn stages(channel: &Channel) -> Stages {
    channel.stages.parse().unwrap_or_default()
}

/// Whether a device is offered the channel's newest release.
pub fn is_offered(fleet: &Fleet, channel: &Channel, device: &str) -> bool {
    let percent = match channel.rollout {
        RolloutState::Done => 100,
        RolloutState::Held => 0,
        RolloutState::Rolling | RolloutState::Paused => stages(channel).percent(channel.stage),
    };
    is_among(percent, &fleet.secret, &channel.name, channel.version, device)
}

/// What the devices that are offered the newest release have said of it. Whoever was not offered it has no vote.
pub async fn tally(fleet: &Fleet, channel: &Channel) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let reported = fleet.db.reported(&channel.name, channel.version).await?;
    let counts = reported.iter().filter(|said| is_offered(fleet, channel, &said.device));
    counts.for_each(|said| tally.take(said.activated, said.accuracy));
    Ok(tally)
}

/// How long a device may be silent and still be waited for.
const SILENT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Devices that take part in the channel, are not silent and are offered its newest release.
pub async fn members(fleet: &Fleet, channel: &Channel) -> Result<u64, Error> {
    let members = fleet.db.members(&channel.name, fleet.now_ms() - SILENT_MS).await?;
    Ok(members.iter().filter(|device| is_offered(fleet, channel, device)).count() as u64)
}

/// What all devices have said of a release.
pub async fn tally_of_all(fleet: &Fleet, channel: &str, version: i64) -> Result<Tally, Error> {
    let mut tally = Tally::default();
    let reported = fleet.db.reported(channel, version).await?;
    reported.iter().for_each(|said| tally.take(said.activated, said.accuracy));
    Ok(tally)
}

/// Takes the step of a rollout that is due, if any.
async fn take_step(fleet: &Fleet, channel: &Channel) -> Result<(), Error> {
    let (tally, now_ms) = (tally(fleet, channel).await?, fleet.now_ms());
    let rollout = Rollout {
        stages: stages(channel),
        stage: channel.stage,
        began_ms: channel.stage_began_ms,
        stage_ms: channel.stage_ms,
        reports: channel.stage_reports.max(0) as u64,
        tolerated: channel.tolerated,
    };
    // Counting them takes all devices: only where it matters. Whoever has reported is one, however silent since.
    let waits = now_ms - rollout.began_ms < rollout.stage_ms;
    let members = if waits { 0 } else { members(fleet, channel).await?.max(tally.reports()) };
    let (name, version) = (&channel.name, channel.version);
    match rollout::step(&rollout, &tally, members, now_ms) {
        Step::Wait => {}
        Step::Advance => {
            if fleet.db.advance_rollout(channel, now_ms).await? {
                let percent = rollout.stages.percent(channel.stage + 1);
                fleet.audit("server", "rollout advanced", &format!("{name}: version {version} to {percent} %")).await;
            }
        }
        Step::Finish => {
            if fleet.db.finish_rollout(channel).await? {
                fleet.audit("server", "rollout finished", &format!("{name}: version {version}")).await;
            }
        }
        Step::Halt(reason) => {
            let reason = format!("version {version} was taken back: {reason}");
            if let Some(to) = fleet.db.release(name, channel.previous).await? {
                roll_back(fleet, channel, &to, Some(&reason), "server").await?;
            }
        }
    }
    Ok(())
}

/// Goes back to an older release and writes it down. Whether the channel was still as given.
pub async fn roll_back(
    fleet: &Fleet,
    channel: &Channel,
    to: &Version,
    halted: Option<&str>,
    who: &str,
) -> Result<bool, Error> {
    if !fleet.db.go_back(channel, to, halted, fleet.now_ms()).await? {
        return Ok(false);
    }
    let what = if halted.is_some() { "rollout halted" } else { "rolled back" };
    let detail = format!(
        "{}: version {} has the adapter of version {}{}",
        channel.name,
        channel.version + 1,
        to.version,
        halted.map_or(String::new(), |reason| format!(", for {reason}"))
    );
    fleet.audit(who, what, &detail).await;
    Ok(true)
}
