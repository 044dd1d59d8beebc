//! Samples that were set aside because nothing can be learned from them: kept for a person to look at, and for the reason to be
//! told, while training goes on without them.
//!
//! `STATE/aside/<name>.<extension>` is the sample, `<name>.json` beside it says its label, when it was set aside and why. The
//! latest stay, within a bound of number and bytes.

use super::folders::{error_at, visible};
use super::sample_name::{Name, name_of, parse};
use crate::order::Order;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Samples that are kept, and their bytes.
const KEPT_MAX: usize = 1000;
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Why a sample lies there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Seconds since 1970.
    pub at: i64,
    /// Its label.
    pub label: String,
    /// The reason.
    pub reason: String,
    /// Its bytes.
    #[serde(default)]
    pub bytes: u64,
}

/// What lies there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Aside(HashMap<Name, Why>);

impl Aside {
    /// What a state has set aside.
    ///
    /// # Errors
    /// The system's.
    pub fn read(state: &Path) -> io::Result<Self> {
        let (reasons, samples) = files(state)?;
        let of = |path: &PathBuf| {
            let name = name_of(path);
            let why = samples.contains(&name).then(|| fs::read(path).ok())??;
            Some((name, serde_json::from_slice(&why).ok()?))
        };
        Ok(Self(reasons.iter().filter_map(of).collect()))
    }

    /// Takes reasons without their samples away: what a killed process left.
    ///
    /// # Errors
    /// The system's.
    pub fn clear(state: &Path) -> io::Result<()> {
        let (reasons, samples) = files(state)?;
        for path in reasons.iter().filter(|path| !samples.contains(&name_of(path))) {
            fs::remove_file(path).map_err(|error| error_at(path, error))?;
        }
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Why a sample was set aside, if it was.
    pub fn why(&self, name: &Name) -> Option<&Why> {
        self.0.get(name)
    }

    /// All, the latest first.
    pub fn latest(&self) -> Vec<(Name, &Why)> {
        let mut all: Vec<(Name, &Why)> = self.0.iter().map(|(name, why)| (*name, why)).collect();
        all.order_by_key(|(name, why)| (std::cmp::Reverse(why.at), *name));
        all
    }

    /// Moves a sample's file there.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&mut self, state: &Path, file: &Path, why: Why) -> io::Result<()> {
        let folder = folder(state);
        fs::create_dir_all(&folder).map_err(|error| error_at(&folder, error))?;
        let target = folder.join(file.file_name().unwrap_or_default());
        let text = serde_json::to_vec(&why).expect("a reason is JSON");
        let beside = target.with_extension("json");
        crate::atomic::write_atomically(&beside, |to| to.write_all(&text))
            .map_err(|e: io::Error| error_at(&beside, e))?;
        fs::rename(file, &target).map_err(|error| error_at(file, error))?;
        self.0.insert(name_of(file), why);
        self.forget(state)
    }

    /// Deletes a sample that was set aside, its file by `remove`; gives whether there was one.
    ///
    /// # Errors
    /// The system's.
    pub fn delete(&mut self, state: &Path, name: &Name, remove: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
        for file in visible(&folder(state))? {
            if name_of(&file) == *name && parse(&file.file_stem().unwrap_or_default().to_string_lossy()).is_some() {
                remove(&file)?;
            }
        }
        Ok(self.0.remove(name).is_some())
    }

    /// The oldest go where there are too many.
    fn forget(&mut self, state: &Path) -> io::Result<()> {
        let mut bytes = 0;
        let latest = self.latest();
        let beyond = latest.into_iter().enumerate().filter(|(place, (_, why))| {
            bytes += why.bytes;
            *place > 0 && (*place >= KEPT_MAX || bytes > KEPT_BYTES_MAX)
        });
        let beyond: Vec<Name> = beyond.map(|(_, (name, _))| name).collect();
        let remove = |file: &Path| fs::remove_file(file).map_err(|error| error_at(file, error));
        beyond.iter().try_for_each(|name| self.delete(state, name, &remove).map(drop))
    }
}

/// Files with reasons, and the names of the samples that are there.
fn files(state: &Path) -> io::Result<(Vec<PathBuf>, HashSet<Name>)> {
    let (reasons, samples): (Vec<PathBuf>, Vec<PathBuf>) = visible(&folder(state))?
        .into_iter()
        .partition(|path| path.extension().is_some_and(|extension| extension == "json"));
    Ok((reasons, samples.iter().map(|path| name_of(path)).collect()))
}

fn folder(state: &Path) -> PathBuf {
    state.join("aside")
}

#[cfg(test)]
mod tests {
    use super::super::sample_name::{name_of_content, text};
    use super::*;

    #[test]
    fn what_is_set_aside_is_told_and_the_latest_stay() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path();
        let mut aside = Aside::default();
        let put = |aside: &mut Aside, number: u8, bytes: u64| {
            let file = state.join(format!("{}.npy", text(&name_of_content(&[number]))));
            fs::write(&file, [number]).unwrap();
            let why = Why { at: number.into(), label: "up".into(), reason: format!("reason {number}"), bytes };
            aside.put(state, &file, why).unwrap();
        };
        for number in 0..3 {
            put(&mut aside, number, 30 << 20);
        }
        let reasons =
            |aside: &Aside| -> Vec<String> { aside.latest().iter().map(|(_, why)| why.reason.clone()).collect() };
        assert_eq!(reasons(&aside), ["reason 2", "reason 1"], "the oldest went for its bytes");
        assert_eq!(Aside::read(state).unwrap(), aside);
        let mut delete = |name| aside.delete(state, &name, &|file| fs::remove_file(file)).unwrap();
        assert!(delete(name_of_content(&[2])) && !delete([0; 16]));
        // A reason without its sample.
        fs::remove_file(folder(state).join(format!("{}.npy", text(&name_of_content(&[1]))))).unwrap();
        assert_eq!(Aside::read(state).unwrap(), Aside::default());
        Aside::clear(state).unwrap();
        assert_eq!(visible(&folder(state)).unwrap().len(), 0);
    }
}
