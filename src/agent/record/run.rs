//! One training from its snapshot of the samples to its verdict, as files: whatever moment the power goes, what lies in
//! `STATE/run` says what is to be done next.
//!
//! `run/` appears by rename, with `run.json` and `data/`, hard links to the samples of that moment, so that a paused
//! training goes on with the same samples. The trainer and the comparison are processes of edgetune's own: their memory
//! is given back, and what kills them does not kill the service.

use super::adapters::{self, Event, Release};
use super::folders::{error_at, visible};
use super::membership::Offer;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What a training is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Samples it learns from.
    pub samples: u64,
    /// Seconds since 1970 when the snapshot was taken.
    pub began: i64,
    /// The release that is tried: then nothing is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The fleet's round that is learned for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// Whether what is learned stays on the device: no class had enough samples for it to be sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
}

/// What is to be done next for the run in `STATE/run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Train, or go on with it.
    Train,
    /// Predict the held-out samples with an adapter, into a file.
    Predict {
        /// The adapter's file.
        adapter: PathBuf,
        /// Whether with the base's own values in place of what that adapter learned.
        base: bool,
        /// Where the answers go.
        answers: PathBuf,
    },
    /// Compare the answers.
    Judge,
}

/// What the run has made.
const CANDIDATE: &str = "candidate.edelta";
/// What the answers of the base are called by, in an adapter's place.
pub(in crate::agent) const BASE: &str = "base";
/// What it goes on from.
pub(in crate::agent) const FROM: &str = "from.edelta";
/// The samples that are learned from, a folder a class.
pub(in crate::agent) const DATA: &str = "data";
/// Those of classes that have too few for what is learned from them to leave the device.
pub(in crate::agent) const LEFT_OUT: &str = "left-out";

pub(in crate::agent) fn folder(state: &Path) -> PathBuf {
    state.join("run")
}

/// Takes a snapshot of the samples to learn from, and of the release that is learned from, where there is one. Classes of fewer samples
/// than `samples_min` are left out, for what is learned would tell of single ones; where no class has as many, all are learned from, and
/// the outcome stays on the device.
///
/// # Errors
/// The system's.
pub fn begin(state: &Path, offer: Option<&Offer>, samples_min: u64, at: i64) -> Result<Run> {
    let draft = draft(state)?;
    let mut samples = 0;
    for class in visible(&state.join("samples/train"))? {
        let mut files = visible(&class)?;
        // A class without samples is no class, and what is no plain file is no sample: neither may be the end of the training.
        files.retain(|file| file.symlink_metadata().is_ok_and(|file| file.is_file()));
        let is_left_out = (files.len() as u64) < samples_min;
        let side = if is_left_out { LEFT_OUT } else { DATA };
        let target = draft.join(side).join(class.file_name().unwrap_or_default());
        for file in &files {
            fs::create_dir_all(&target)?;
            fs::hard_link(file, target.join(file.file_name().unwrap_or_default())).map_err(|e| error_at(file, e))?;
        }
        samples += if is_left_out { 0 } else { files.len() as u64 };
    }
    let (left_out, data) = (draft.join(LEFT_OUT), draft.join(DATA));
    let stays = !data.exists() && left_out.exists();
    if stays {
        fs::rename(&left_out, &data)?;
        samples = files_in(&data)?;
    }
    if let Some(offer) = offer {
        copy(&offer.adapter, &draft.join(FROM))?;
    }
    let began = beginning(state, at)?;
    let run = Run { samples, began, release: None, round: offer.and_then(|offer| offer.round), stays };
    put_in_place(state, &draft, &run)?;
    Ok(run)
}

/// Begins to try a release: its adapter takes the place of one that was trained.
///
/// # Errors
/// The system's.
pub fn try_release(state: &Path, offer: &Offer, at: i64) -> Result<Run> {
    let draft = draft(state)?;
    fs::create_dir_all(&draft)?;
    copy(&offer.adapter, &draft.join(CANDIDATE))?;
    let began = beginning(state, at)?;
    let run = Run { samples: 0, began, release: Some(offer.release.clone()), round: None, stays: false };
    put_in_place(state, &draft, &run)?;
    Ok(run)
}

/// Files in the folders of a folder.
fn files_in(folder: &Path) -> Result<u64> {
    let classes = visible(folder)?;
    let counts = classes.iter().map(|class| Ok(visible(class)?.len() as u64));
    Ok(counts.sum::<std::io::Result<u64>>()?)
}

/// When a run begins: later than all of the history, for a run finds its own verdict there by its time. The same samples give the same
/// adapter, which may have been judged before in this very second.
fn beginning(state: &Path, at: i64) -> Result<i64> {
    let last = adapters::history(state)?.iter().map(Event::at).max();
    Ok(last.map_or(at, |last| at.max(last + 1)))
}

/// Where a run is put together; nothing is there yet.
fn draft(state: &Path) -> Result<PathBuf> {
    let draft = state.join(".run.tmp");
    remove(&draft)?;
    // What is left of a run whose end was cut off.
    remove(&folder(state))?;
    Ok(draft)
}

fn put_in_place(state: &Path, draft: &Path, run: &Run) -> Result<()> {
    fs::write(draft.join("run.json"), serde_json::to_vec(run)?)?;
    File::open(draft.join("run.json"))?.sync_all()?;
    fs::rename(draft, folder(state))?;
    Ok(File::open(state)?.sync_all()?)
}

/// Copies a file and brings it to the disk.
pub(in crate::agent) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(|error| error_at(from, error))?;
    Ok(File::open(to)?.sync_all()?)
}

/// The run that is not finished.
///
/// # Errors
/// A run whose description cannot be read.
pub fn current(state: &Path) -> Result<Option<Run>> {
    let path = folder(state).join("run.json");
    match fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error_at(&path, error).into()),
    }
}

/// Ends the run, whatever it has reached.
///
/// # Errors
/// The system's.
pub fn end(state: &Path) -> Result<()> {
    // The description goes first: without it there is no run.
    let description = folder(state).join("run.json");
    if description.exists() {
        fs::remove_file(description)?;
    }
    Ok(remove(&folder(state))?)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error_at(folder, error)),
        _ => Ok(()),
    }
}

/// The adapter that the run has made, once it has.
pub fn candidate(state: &Path) -> PathBuf {
    folder(state).join(CANDIDATE)
}

/// What is to be done next.
///
/// # Errors
/// The system's.
pub fn next(state: &Path, run: &Run) -> Result<Next> {
    let candidate = candidate(state);
    if !candidate.exists() {
        return Ok(Next::Train);
    }
    let name = adapters::name_of(&candidate)?;
    // What was judged is not compared again: it may be in use by now, and would be compared with itself.
    if verdict(&adapters::history(state)?, run, &name).is_some() {
        return Ok(Next::Judge);
    }
    let mut adapters = vec![(candidate.clone(), name, false)];
    match adapters::active(state)? {
        Some(active) => adapters.push((adapters::path(state, &active), active, false)),
        None => adapters.push((candidate, BASE.into(), true)),
    }
    for (adapter, name, base) in adapters {
        let answers = answers(state, &name);
        if !answers.exists() {
            return Ok(Next::Predict { adapter, base, answers });
        }
    }
    Ok(Next::Judge)
}

/// What this run's adapter was judged to be, if that is in the history: the verdict, and whether something was put to use after it.
pub(in crate::agent) fn verdict<'a>(history: &'a [Event], run: &Run, name: &str) -> Option<(&'a Event, bool)> {
    let of_run =
        |event: &Event| matches!(event, Event::Judged { at, adapter, .. } if adapter == name && *at >= run.began);
    let place = history.iter().rposition(of_run)?;
    let used = |event: &Event| matches!(event, Event::Activated { .. } | Event::Withdrawn { .. });
    Some((&history[place], history[place..].iter().any(used)))
}

pub(in crate::agent) fn answers(state: &Path, adapter: &str) -> PathBuf {
    folder(state).join(format!("answers-{adapter}.json"))
}

/// The answers of a finished prediction, in their place.
///
/// # Errors
/// The system's.
pub fn answered(state: &Path, answers: &Path) -> Result<()> {
    let out = folder(state).join("out");
    File::open(&out)?.sync_all()?;
    Ok(fs::rename(out, answers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent was learned from no class of so few samples that it could tell of one of them.
    #[test]
    fn classes_of_few_samples_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path();
        for (class, count) in [("cat", 5), ("dog", 4), ("owl", 1)] {
            fs::create_dir_all(state.join("samples/train").join(class)).unwrap();
            for number in 0..count {
                fs::write(state.join(format!("samples/train/{class}/{number}.png")), class).unwrap();
            }
        }
        let learned = |samples_min| {
            let run = begin(state, None, samples_min, 7).unwrap();
            let classes = visible(&folder(state).join(DATA)).unwrap();
            let names: Vec<_> = classes.iter().map(|class| class.file_name().unwrap().to_owned()).collect();
            end(state).unwrap();
            (run.samples, run.stays, names)
        };
        assert_eq!(learned(5), (5, false, vec!["cat".into()]));
        assert_eq!(learned(4), (9, false, vec!["cat".into(), "dog".into()]));
        let all = vec!["cat".into(), "dog".into(), "owl".into()];
        assert_eq!((learned(0), learned(6)), ((10, false, all.clone()), (10, true, all)));
    }

    #[test]
    fn an_end_that_is_cut_off_anywhere_lets_the_next_run_begin() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path();
        fs::create_dir_all(state.join("samples/train/cat")).unwrap();
        fs::write(state.join("samples/train/cat/a.png"), "a").unwrap();
        let run = begin(state, None, 0, 7).unwrap();
        assert_eq!((run.samples, current(state).unwrap()), (1, Some(run)));
        fs::remove_file(folder(state).join("run.json")).unwrap();
        assert_eq!(current(state).unwrap(), None, "without its description it is no run");
        let run = begin(state, None, 0, 8).unwrap();
        assert_eq!(current(state).unwrap(), Some(run));
        // A snapshot that was not finished is made again.
        end(state).unwrap();
        fs::create_dir_all(state.join(".run.tmp/data/dog")).unwrap();
        assert_eq!(begin(state, None, 0, 9).unwrap().samples, 1);
        assert!(!folder(state).join("data/dog").exists());
        // A class without samples, and what is no sample: every training failed for the one, and followed the other.
        end(state).unwrap();
        fs::create_dir_all(state.join("samples/train/empty")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", state.join("samples/train/cat/b.png")).unwrap();
        assert_eq!(begin(state, None, 0, 10).unwrap().samples, 1);
        assert_eq!(visible(&folder(state).join(DATA)).unwrap().len(), 1);
        assert!(state.join("samples/train/cat/a.png").exists());
    }
}
