//! Rounds: what becomes of the deltas of a closed one.
//!
//! A replica claims a closed round through the database, combines its deltas, signs the outcome and releases it; another takes it
//! over where the claim is not held any more. The outcome depends on the deltas alone, so it does not matter who was faster: the
//! bytes are the same, and only one of them turns the channel.

use super::db::{Channel, Closing, Counted, NewRelease};
use super::store::{Store, adapter_key, chunk_key};
use super::{Error, Fleet};
use crate::aggregate::{Clip, Options, Rule, bound, combine};
use crate::amounts::counted;
use crate::delta;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a claim holds without being renewed.
const CLAIM_MS: i64 = 60_000;
/// Deltas that are decoded at once, at most: each is held with all of its values.
const DECODED_MAX: usize = 4;
/// How often a claim is renewed.
const RENEWED: Duration = Duration::from_secs(15);

/// How a channel combines deltas, as a text: `mean`, `median` or `trimmed:PART`, and `,clip` or `,clip:NORM` behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combining {
    /// What becomes of a coordinate.
    pub rule: Rule,
    /// The bound of the norms.
    pub clip: Option<Clip>,
}

impl FromStr for Combining {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("`{text}` is no rule; give mean, median or trimmed:PART, and with a bound of the norm `,clip`");
        let (rule, clip) = text.split_once(',').map_or((text, None), |(rule, clip)| (rule, Some(clip)));
        let rule = match rule.split_once(':') {
            None if rule == "mean" => Rule::Mean,
            None if rule == "median" => Rule::Median,
            Some(("trimmed", part)) => {
                let part = part.parse().ok().filter(|part| (0.0..0.5).contains(part));
                Rule::TrimmedMean { part: part.ok_or_else(refused)? }
            }
            _ => return Err(refused()),
        };
        let clip = match clip.map(|clip| clip.split_once(':').map_or((clip, None), |(clip, norm)| (clip, Some(norm)))) {
            None => None,
            Some(("clip", None)) => Some(Clip::AtMedian),
            Some(("clip", Some(norm))) => {
                let norm = norm.parse().ok().filter(|norm: &f64| *norm > 0.0 && norm.is_finite());
                Some(Clip::At(norm.ok_or_else(refused)?))
            }
            Some(_) => return Err(refused()),
        };
        Ok(Self { rule, clip })
    }
}

impl fmt::Display for Combining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Rule::Mean => f.write_str("mean")?,
            Rule::Median => f.write_str("median")?,
            Rule::TrimmedMean { part } => write!(f, "trimmed:{part}")?,
        }
        match self.clip {
            None => Ok(()),
            Some(Clip::AtMedian) => f.write_str(",clip"),
            Some(Clip::At(norm)) => write!(f, ",clip:{norm}"),
        }
    }
}

impl Combining {
    /// Devices that a round needs for the rule to do what it says: of fewer a trimmed mean would leave nobody out.
    fn devices_least(&self) -> i64 {
        match self.rule {
            Rule::TrimmedMean { part } if part > 0.0 => (1.0 / part).ceil() as i64,
            Rule::Mean | Rule::Median | Rule::TrimmedMean { .. } => 1,
        }
    }
}

/// Devices that a round of a channel has at least before it is combined.
///
/// # Errors
/// A rule of a later version.
pub fn devices_min(fleet: &Fleet, channel: &Channel) -> Result<u32, Error> {
    let by_rule = channel.rule.parse::<Combining>().map_err(Error::Combine)?.devices_least();
    Ok(fleet.current().limits.round_devices_min.max(1).max(u32::try_from(by_rule).unwrap_or(u32::MAX)))
}

/// Why a channel's round cannot be closed yet; none where it can.
///
/// # Errors
/// The channel's rule is of a later version; the database fails.
pub async fn too_few(fleet: &Fleet, channel: &Channel) -> Result<Option<String>, Error> {
    if fleet.current().root.as_ref().is_some_and(|root| !root.authors.is_empty()) {
        return Ok(Some(format!(
            "the devices of this fleet take what an author has signed alone, and nobody would sign what comes of `{}`'s round; publish \
             a release that an author has signed",
            channel.name
        )));
    }
    let deltas = fleet.db.count_in(&channel.name, channel.round).await?;
    missing(channel, deltas, fleet.current().limits.round_devices_min)
}

/// What is missing of a round of so many deltas.
fn missing(channel: &Channel, deltas: i64, devices_min: u32) -> Result<Option<String>, Error> {
    let Channel { name, round, rule, .. } = channel;
    let by_rule = rule.parse::<Combining>().map_err(Error::Combine)?.devices_least();
    let (least, whose) = match i64::from(devices_min.max(1)) {
        least if least >= by_rule => (least, "by setting `round-devices-min` of the server".to_owned()),
        _ => (by_rule, format!("for the rule {rule}")),
    };
    let wait = "wait until more devices have sent theirs";
    Ok(match deltas {
        deltas if deltas >= least => None,
        0 => Some(format!("round {round} of `{name}` has no delta to combine; {wait}")),
        _ => {
            let deltas = counted(deltas, "device");
            Some(format!("round {round} of `{name}` has deltas of {deltas}, and needs {least} {whose}; {wait}"))
        }
    })
}

/// All bytes of a device's delta, from its chunks.
///
/// # Errors
/// A chunk is not there; the store fails.
pub async fn delta_bytes(store: &Store, counted: &Counted, bytes: &mut Vec<u8>) -> Result<(), Error> {
    while (bytes.len() as i64) < counted.length {
        let key = chunk_key(&counted.device, &counted.hash, bytes.len() as u64);
        let chunk = store.get(&key).await?.filter(|chunk| !chunk.is_empty()).ok_or(Error::Lost(key))?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(())
}

/// Combines one closed round, if there is one that nobody is at. Whether there was.
///
/// # Errors
/// Database or store; the round stays closed, and is tried again.
pub async fn turn(fleet: &Fleet) -> Result<bool, Error> {
    let claim = fleet.random_name()?;
    let now_ms = fleet.now_ms();
    let Some(closing) = fleet.db.claim_round(&claim, now_ms, now_ms + CLAIM_MS).await? else { return Ok(false) };
    let held = async {
        loop {
            tokio::time::sleep(RENEWED).await;
            match fleet.db.hold_round(&closing.claim, fleet.now_ms() + CLAIM_MS).await {
                Ok(true) => {}
                Ok(false) => return,
                // The database may be back before the claim is over.
                Err(error) => tracing::warn!("claim of the round of `{}`: {error}", closing.channel.name),
            }
        }
    };
    let outcome = tokio::select! {
        outcome = combined(fleet, &closing) => outcome,
        () = held => return Ok(true),
    };
    let name = &closing.channel.name;
    match outcome {
        Ok(release) => {
            if let Some(version) = fleet.db.finish_round(&closing, &release, fleet.now_ms()).await? {
                let detail = format!("{name}: version {version}, {}", counted(release.devices, "device"));
                fleet.audit("server", "released", &detail).await;
            }
        }
        Err(Error::Combine(problem)) => {
            let told = format!("round {} came to nothing: {problem}", closing.channel.round);
            fleet.db.reopen_round(&closing, &told).await?;
            fleet.audit("server", "round failed", &format!("{name}: {problem}")).await;
        }
        Err(error) => {
            // Another replica may fare better; that this one's claim is over may be lost on the way, and then it ends by itself.
            let _ = fleet.db.hold_round(&closing.claim, 0).await;
            return Err(error);
        }
    }
    Ok(true)
}

/// The round's release: combined, signed and stored.
async fn combined(fleet: &Fleet, closing: &Closing) -> Result<NewRelease, Error> {
    let channel = &closing.channel;
    let counted = fleet.db.counted(&channel.name, channel.round).await?;
    // Some may have been revoked since it was closed.
    if let Some(reason) = missing(channel, counted.len() as i64, fleet.current().limits.round_devices_min)? {
        return Err(Error::Combine(reason));
    }
    let combining: Combining = channel.rule.parse().map_err(Error::Combine)?;
    let reference = match combining.clip {
        Some(_) => fleet.store.get(&adapter_key(&channel.adapter)).await?,
        None => None,
    };
    let (store, runtime, devices) = (fleet.store.clone(), Handle::current(), counted.len());
    let round = u32::try_from(channel.round).ok();
    let bytes = tokio::task::spawn_blocking(move || {
        let mut weights: Vec<f64> = counted.iter().map(|counted| counted.weight).collect();
        bound(&mut weights);
        let mut read =
            |index: usize, bytes: &mut Vec<u8>| Ok(runtime.block_on(delta_bytes(&store, &counted[index], bytes))?);
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(DECODED_MAX));
        let options = Options { rule: combining.rule, clip: combining.clip, round, threads, ..Options::default() };
        combine(&weights, &mut read, reference.as_deref(), &options)
    });
    let combined = bytes.await.map_err(|error| Error::Combine(error.to_string()))?;
    let combined = combined.map_err(|error| Error::Combine(error.to_string()))?;
    let signed =
        delta::sign(&combined.bytes, &fleet.current().key).map_err(|error| Error::Combine(error.to_string()))?;
    let (adapter, length) = (blake3::hash(&signed).to_string(), signed.len() as i64);
    fleet.store.put(&adapter_key(&adapter), signed.into()).await?;
    Ok(NewRelease { adapter, length, devices: devices as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_text_and_back() {
        for text in ["mean", "median", "trimmed:0.2", "mean,clip", "trimmed:0.1,clip:2.5"] {
            assert_eq!(text.parse::<Combining>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "means", "trimmed", "trimmed:0.5", "trimmed:x", "mean,", "mean,clip:0", "mean,clip:inf", "median:1"]
        {
            assert!(wrong.parse::<Combining>().is_err(), "{wrong}");
        }
    }
}
