//! What operators make, over the interface and on the pages alike: channels, and releases that no round has made.

use super::db::{Channel, NewRelease, RolloutState, RoundState};
use super::rollout::Stages;
use super::store::{self, adapter_key};
use super::{Combining, Error, Fleet, Known, db};
use crate::delta::{self, Delta};
use crate::sync::wire::{CHANNEL_RULE, Hex, is_channel};
use axum::body::Bytes;

/// How a channel is to be, as somebody has written it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `mean`, `median` or `trimmed:PART`, with `,clip` for a bound of the norms.
    pub rule: String,
    /// Parts of the devices that get a new release one after another, in per cent.
    pub stages: String,
    /// Seconds that a stage lasts at least.
    pub stage_s: u32,
    /// Devices that must have reported before the next stage, where as many have the release.
    pub stage_reports: u32,
    /// Share of the devices that may refuse a release without it being halted.
    pub tolerated: f64,
}

impl Default for Plan {
    fn default() -> Self {
        let (rule, stages) = ("trimmed:0.2,clip".into(), Stages::default().to_string());
        Self { rule, stages, stage_s: 3600, stage_reports: 20, tolerated: 0.25 }
    }
}

/// Why it is not made.
#[derive(Debug)]
pub enum Refusal {
    /// What was written is not as it should be.
    Form(String),
    /// The file is no delta that can be released.
    Delta(String),
    /// It is for another base, or the channel has changed meanwhile.
    Conflict(String),
    /// The server cannot.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<db::Error> for Refusal {
    fn from(error: db::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes a channel whose first release is a delta, and writes down who has made it.
///
/// # Errors
/// [`Refusal`].
pub async fn make(fleet: &Fleet, name: &str, plan: Plan, bytes: &Bytes, who: &str) -> Result<Channel, Refusal> {
    let Plan { rule, stages, stage_s, stage_reports, tolerated } = plan;
    let rule: Combining = rule.parse().map_err(Refusal::Form)?;
    let stages: Stages = stages.parse().map_err(Refusal::Form)?;
    if !(0.0..1.0).contains(&tolerated) {
        return Err(Refusal::Form(format!("tolerated `{tolerated}`: give a share from 0 to below 1, such as 0.25")));
    }
    if !is_channel(name) {
        return Err(Refusal::Form(format!("channel {name:?}: a channel's name has {CHANNEL_RULE}")));
    }
    let (base, release) = kept(fleet, bytes).await?;
    let channel = Channel {
        name: name.into(),
        base,
        adapter: release.adapter,
        length: release.length,
        version: 1,
        round: 1,
        state: RoundState::Open,
        rule: rule.to_string(),
        problem: String::new(),
        stages: stages.to_string(),
        stage_ms: i64::from(stage_s) * 1000,
        stage_reports: stage_reports.into(),
        tolerated,
        rollout: RolloutState::Done,
        stage: 0,
        stage_began_ms: 0,
        previous: 1,
        pinned: false,
    };
    if !fleet.db.add_channel(&channel, fleet.now_ms()).await? {
        return Err(Refusal::Conflict("there is a channel of that name; choose another".into()));
    }
    fleet.audit(who, "channel made", name).await;
    Ok(channel)
}

/// Publishes a delta as a channel's next release, which is rolled out; gives its version, and writes down who has published it.
///
/// # Errors
/// [`Refusal`].
pub async fn publish(fleet: &Fleet, channel: &Channel, bytes: &Bytes, who: &str) -> Result<i64, Refusal> {
    let (base, release) = kept(fleet, bytes).await?;
    if base != channel.base {
        let detail =
            format!("the delta is for the base {base}, the channel for {}; train it on that one", channel.base);
        return Err(Refusal::Conflict(detail));
    }
    let published = fleet.db.publish(channel, &release, fleet.now_ms()).await?;
    let version = published.ok_or_else(|| {
        Refusal::Conflict("the channel has changed meanwhile, or its round is being combined; look at it again".into())
    })?;
    fleet.audit(who, "released", &format!("{}: version {version}", channel.name)).await;
    Ok(version)
}

/// An operator's delta: looked at, signed by the server whoever has signed it before (devices know its key only), but for what an author
/// has to have signed, and stored. With the base that it belongs to.
async fn kept(fleet: &Fleet, bytes: &Bytes) -> Result<(String, NewRelease), Refusal> {
    let refused = |error: delta::Error| Refusal::Delta(error.to_string());
    let base = Delta::parse(bytes).map_err(refused)?.header().base;
    Known::parse(bytes).map_err(refused)?;
    let current = fleet.current();
    let authors = current.root.as_ref().map_or(&[][..], |root| &root.authors);
    let delta = Delta::parse(bytes).map_err(refused)?;
    let signed = match authors {
        [] => delta::sign(bytes, &current.key).map_err(refused)?,
        authors if authors.iter().any(|author| delta.head().verify(&author.0).is_ok()) => bytes.to_vec(),
        _ => {
            let detail = "no author of the fleet has signed the delta, and no device would take it; sign it with edgetune delta sign";
            return Err(Refusal::Delta(detail.into()));
        }
    };
    let (adapter, length) = (blake3::hash(&signed).to_string(), signed.len() as i64);
    fleet.store.put(&adapter_key(&adapter), signed.into()).await?;
    Ok((Hex(base).to_string(), NewRelease { adapter, length, devices: 0 }))
}
