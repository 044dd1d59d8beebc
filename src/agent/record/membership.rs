//! This device as a member of a fleet: what the server offers, and what waits to be sent.
//!
//! `edgetune fleet sync` talks to the server, in a process of its own; here its files are read and written
//! ([`crate::sync::client`]). What is offered has been verified by then, and is tried like what was learned here: on samples that
//! nobody has learned from.

use super::events::{Event, Release};
use super::ledger;
use crate::agent::config::Fleet;
use crate::agent::judge::gate::Accepted;
use crate::delta::{Counting, Delta, counted};
use crate::sync::client::{Folder, keep_report};
use crate::sync::wire::{Number, ReleaseReport, ReleaseVerdict};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What the fleet's devices are to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The release.
    pub release: Release,
    /// The round that is open for what is learned from it.
    pub round: Option<u32>,
    /// Its adapter.
    pub adapter: PathBuf,
}

/// What was taken from the server last, if anything was.
///
/// # Errors
/// Files that cannot be read.
pub fn offer(fleet: &Fleet) -> Result<Option<Offer>> {
    let folder = Folder::open(&fleet.state)?;
    let taken = folder.seen()?.0.remove(&fleet.channel);
    Ok(taken.map(|taken| Offer {
        release: Release { channel: fleet.channel.clone(), epoch: taken.release.epoch, version: taken.release.version },
        round: taken.release.round,
        adapter: folder.adapter(&fleet.channel),
    }))
}

/// What became of the channel's last release here: its number, and how it was judged if it could be tried.
pub fn last(history: &[Event], channel: &str) -> Option<(Number, Option<Accepted>)> {
    history.iter().rev().find_map(|event| {
        let (release, accepted) = match event {
            Event::Judged { release, accepted, .. } => (release.as_ref()?, *accepted),
            Event::Failed { release, .. } => (release.as_ref()?, None),
            _ => return None,
        };
        (release.channel == channel).then_some((release.number(), accepted))
    })
}

/// Keeps an adapter that was learned here for the server, with its samples counted as exactly as the device's owner wants; the ledger of
/// `state` says so first.
///
/// # Errors
/// Files that cannot be read or written.
pub fn share(fleet: &Fleet, state: &Path, (adapter, delta): (&str, &Path), at: i64) -> Result<()> {
    let in_file = || delta.display().to_string();
    let bytes = fs::read(delta).with_context(in_file)?;
    let bytes = match fleet.counts {
        Counting::Exact => bytes,
        counting => counted(&Delta::parse(&bytes).with_context(in_file)?, counting).with_context(in_file)?,
    };
    let (adapter, channel, hash) = (adapter.into(), fleet.channel.clone(), blake3::hash(&bytes).to_hex().to_string());
    ledger::write(state, &Event::Shared { at, adapter, channel, hash, bytes: bytes.len() as u64 })?;
    Ok(Folder::open(&fleet.state)?.queue().put(&fleet.channel, &bytes)?)
}

/// Keeps for the server what became of a release; `accepted` is none where it could not be tried.
///
/// # Errors
/// Files that cannot be written.
pub fn tell(fleet: &Fleet, release: &Release, accepted: Option<Accepted>, accuracy: Option<[f32; 2]>) -> Result<()> {
    let verdict = match accepted {
        Some(Accepted::Activated) => ReleaseVerdict::Activated,
        Some(Accepted::Kept) => ReleaseVerdict::Kept,
        Some(Accepted::Rejected) => ReleaseVerdict::Rejected,
        None => ReleaseVerdict::Failed,
    };
    let Release { channel, epoch, version } = release.clone();
    let report = ReleaseReport { channel, epoch, version, verdict, accuracy };
    Ok(keep_report(&Folder::open(&fleet.state)?.reports(), &report)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::judge::gate::{Comparison, judge};

    #[test]
    fn what_became_of_a_channels_last_release_is_in_the_history() {
        let judged = |channel: &str, version, accepted| Event::Judged {
            at: 0,
            adapter: "a".into(),
            against: "b".into(),
            samples: 0,
            verdict: judge(Comparison::default(), Some(0.9)),
            confidence: None,
            promise: None,
            release: Some(Release { channel: channel.into(), epoch: 0, version }),
            accepted: Some(accepted),
        };
        let failed = |release| Event::Failed { at: 0, samples: 3, reason: "r".into(), release, cause: None };
        let photos = Release { channel: "photos".into(), epoch: 1, version: 1 };
        let number = |epoch, version| Number { epoch, version };
        let history = [
            judged("photos", 2, Accepted::Kept),
            judged("texts", 9, Accepted::Activated),
            failed(None),
            failed(Some(photos)),
        ];
        assert_eq!(last(&history[..1], "photos"), Some((number(0, 2), Some(Accepted::Kept))));
        assert_eq!(last(&history[..3], "photos"), Some((number(0, 2), Some(Accepted::Kept))));
        assert_eq!(last(&history, "photos"), Some((number(1, 1), None)));
        assert_eq!(last(&history, "none"), None);
    }
}
