//! Files of the spool that were refused, each with its reason: what `status` tells of what lies in `SPOOL/.refused`.
//!
//! Takes what a look into the spool has refused, keeps the latest in `STATE/refused.json`. Whoever takes a file out of `.refused` takes it out
//! of what is told. It decides nothing.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The folder in the spool for what is of no use.
pub const REFUSED: &str = ".refused";
/// Reasons that are kept.
const KEPT_MAX: usize = 1000;

/// A file that was moved to `.refused`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// Where it lay.
    pub path: PathBuf,
    /// Its name there.
    pub kept: OsString,
    /// Why.
    pub reason: String,
}

/// What is remembered of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Where it lay in the spool.
    pub file: PathBuf,
    /// Its name in `.refused`.
    pub kept: String,
    /// The reason.
    pub reason: String,
    /// Seconds since 1970.
    pub at: i64,
}

/// All that lie there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedFiles {
    /// How many.
    pub count: usize,
    /// Those whose reason is known, the latest first.
    pub latest: Vec<Refused>,
}

/// What lies in a spool's `.refused`. A list that cannot be read tells no reasons; the files are counted all the same.
pub fn read(state: &Path, spool: &Path) -> RefusedFiles {
    let folder = spool.join(REFUSED);
    // A link that somebody put there leads elsewhere.
    let is_folder = folder.symlink_metadata().is_ok_and(|folder| folder.is_dir());
    let entries = is_folder.then(|| fs::read_dir(&folder).ok()).flatten();
    let there: HashSet<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    let known: Vec<Refused> =
        fs::read(list(state)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let mut seen = HashSet::new();
    // A name may have been used again after its first file was taken out.
    let latest =
        known.into_iter().rev().filter(|refused| there.contains(&refused.kept) && seen.insert(refused.kept.clone()));
    RefusedFiles { count: there.len(), latest: latest.collect() }
}

/// Adds what a look has refused, and gives all that lie there now.
///
/// # Errors
/// The system's.
pub fn add(state: &Path, spool: &Path, refused: &[RefusedFile], at: i64) -> io::Result<RefusedFiles> {
    let mut all = read(state, spool).latest;
    all.reverse();
    all.retain(|known| refused.iter().all(|new| new.kept.to_string_lossy() != known.kept));
    all.extend(refused.iter().map(|new| Refused {
        file: new.path.strip_prefix(spool).unwrap_or(&new.path).into(),
        kept: new.kept.to_string_lossy().into(),
        reason: new.reason.clone(),
        at,
    }));
    let beyond = all.len().saturating_sub(KEPT_MAX);
    all.drain(..beyond);
    let text = serde_json::to_vec(&all).map_err(io::Error::other)?;
    crate::atomic::write_atomically(&list(state), |to| to.write_all(&text))?;
    Ok(read(state, spool))
}

fn list(state: &Path) -> PathBuf {
    state.join("refused.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_is_told_with_its_reason_until_it_is_taken_out() {
        let place = tempfile::tempdir().unwrap();
        let (state, spool) = (place.path().join("state"), place.path().join("spool"));
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(spool.join(REFUSED)).unwrap();
        assert_eq!(read(&state, &spool), RefusedFiles::default());
        let refuse = |name: &str, at: i64| {
            fs::write(spool.join(REFUSED).join(name), name).unwrap();
            let file = RefusedFile {
                path: spool.join("cat").join(name),
                kept: name.into(),
                reason: format!("no photograph at {at}"),
            };
            add(&state, &spool, &[file], at).unwrap()
        };
        refuse("a.png", 1);
        let told = refuse("b.png", 2);
        let reasons: Vec<&str> = told.latest.iter().map(|refused| refused.reason.as_str()).collect();
        assert_eq!((told.count, reasons), (2, vec!["no photograph at 2", "no photograph at 1"]));
        assert_eq!((told.latest[0].file.clone(), told.latest[0].at), (PathBuf::from("cat/b.png"), 2));
        fs::remove_file(spool.join(REFUSED).join("a.png")).unwrap();
        assert_eq!(read(&state, &spool).count, 1);
        let told = refuse("a.png", 3);
        assert_eq!((told.count, told.latest[0].at), (2, 3), "{told:?}");
        fs::write(state.join("refused.json"), "{").unwrap();
        assert_eq!((read(&state, &spool).count, read(&state, &spool).latest.len()), (2, 0));
    }
}
