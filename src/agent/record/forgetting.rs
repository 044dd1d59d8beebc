//! Samples that are forgotten for good: their bytes and everybody's features are overwritten, and adapters that learned from them go.
//!
//! An adapter that learned from a forgotten sample and is not in use is removed at once. The one in use stays until a training without the
//! sample has taken its place; `STATE/to-replace.json` names it until then.

use super::adapters::{self, FLEET};
use super::events::Event;
use super::folders::{erase, error_at, file_name, visible};
use super::ledger;
use super::run;
use super::sample_name::{self, Name};
use super::samples::{Refusal, Store};
use crate::{atomic, cache};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// On whose word the ledger says that a sample was deleted.
const FORGET: &str = "forget";
const TO_REPLACE: &str = "to-replace.json";

/// Forgets samples. No process of the state's may be at work: one that trains has them open.
///
/// # Errors
/// The system's. What was done until then stays done, and all of it can be asked for again.
pub fn forget(state: &Path, cache: &Path, store: &Store, samples: &[Name], at: i64) -> Result<(), Refusal> {
    // The snapshot of a training holds the same files; what it has come to is learned from them.
    run::end(state).map_err(io::Error::other)?;
    mark(state, samples)?;
    cache::erase_features(cache)?;
    // Last, so that what was cut off before can be asked for again by the samples' names.
    samples.iter().try_for_each(|name| match store.erase(name, FORGET, at) {
        Err(Refusal::Unknown(_)) => Ok(()),
        done => done,
    })
}

/// Adapters that learned from what was forgotten since, and are to be replaced.
///
/// # Errors
/// A file that cannot be read.
pub fn to_replace(state: &Path) -> io::Result<Vec<String>> {
    let path = state.join(TO_REPLACE);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| error_at(&path, io::Error::new(ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error_at(&path, error)),
    }
}

/// Something else is in use: what was to be replaced is removed.
///
/// # Errors
/// The system's.
pub fn replaced(state: &Path) -> io::Result<()> {
    let active = adapters::active(state)?;
    let (stay, go): (Vec<String>, Vec<String>) =
        to_replace(state)?.into_iter().partition(|adapter| active.as_ref() == Some(adapter));
    if go.is_empty() {
        return Ok(());
    }
    go.iter().try_for_each(|adapter| remove(state, adapter))?;
    keep(state, &stay)
}

/// Of adapters that learned from any of these samples, or of which nobody knows, removes those that are not in use, and notes the one that is.
fn mark(state: &Path, samples: &[Name]) -> io::Result<()> {
    let names: Vec<String> = samples.iter().map(sample_name::text).collect();
    let (lists, history, active) = (lists(state), adapters::history(state)?, adapters::active(state)?);
    let mut noted = to_replace(state)?;
    for file in visible(&state.join("adapters"))? {
        let adapter = file_name(&file).trim_end_matches(".edelta").to_string();
        let text =
            lists.get(&adapter).and_then(|list| fs::read_to_string(ledger::list(&state.join(ledger::FILE), list)).ok());
        let has_learned = match text {
            Some(text) => text.lines().any(|line| names.iter().any(|name| line.starts_with(name.as_str()))),
            // From before there was a ledger; what came from the fleet was not learned here.
            None => adapters::activated_by(&history, &adapter) != Some(FLEET),
        };
        match has_learned {
            true if active.as_ref() == Some(&adapter) && !noted.contains(&adapter) => noted.push(adapter),
            true if active.as_ref() != Some(&adapter) => remove(state, &adapter)?,
            _ => {}
        }
    }
    if noted.is_empty() { Ok(()) } else { keep(state, &noted) }
}

/// The list of samples that each adapter was learned from, as far as the ledger holds together.
fn lists(state: &Path) -> HashMap<String, String> {
    let mut lists = HashMap::new();
    if let Ok(file) = File::open(state.join(ledger::FILE)) {
        let _ = ledger::walk(BufReader::new(file), &[], &mut |entry| {
            if let Event::Learned(learned) = entry.what {
                lists.insert(learned.adapter, learned.list);
            }
        });
    }
    lists
}

fn remove(state: &Path, adapter: &str) -> io::Result<()> {
    let path = adapters::path(state, adapter);
    if path.exists() { erase(&path) } else { Ok(()) }
}

fn keep(state: &Path, adapters: &[String]) -> io::Result<()> {
    let path = state.join(TO_REPLACE);
    let text = serde_json::to_vec(adapters).expect("names are JSON");
    let written = match adapters {
        [] => fs::remove_file(&path),
        _ => atomic::write_atomically(&path, |file| file.write_all(&text)),
    };
    written.map_err(|error| error_at(&path, error))
}

/// Samples that came before a moment, in seconds since 1970, also those that were set aside. A sample's file keeps its time when it gets
/// another label or is set aside.
///
/// # Errors
/// The system's.
pub fn came_before(state: &Path, moment_s: i64) -> io::Result<Vec<Name>> {
    let mut folders = vec![state.join("aside")];
    for side in super::inventory::SIDES {
        folders.extend(visible(&state.join("samples").join(side))?);
    }
    let mut names = Vec::new();
    for folder in folders {
        for file in visible(&folder)? {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let came = file.symlink_metadata()?.modified()?.duration_since(UNIX_EPOCH);
            let is_old = came.map_or(true, |came| (came.as_secs() as i64) < moment_s);
            names.extend(sample_name::parse(&stem).filter(|_| is_old));
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
