//! Folders that hold a data set in parts: `train`, `val`, `test`, by the names that people and programs give them.

use super::{Error, filesystem};
use std::path::{Path, PathBuf};

const TRAIN: [&str; 3] = ["train", "training", "trainset"];
const VALIDATION: [&str; 6] = ["val", "valid", "validation", "dev", "valset", "eval"];
const TEST: [&str; 4] = ["test", "testing", "testset", "holdout"];

/// The parts of a data set, each a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// What is learned.
    pub train: PathBuf,
    /// What validates.
    pub val: Option<PathBuf>,
    /// What measures at the end.
    pub test: Option<PathBuf>,
}

/// Whether a folder's name is that of a part, and so of no class.
pub(super) fn is_part(folder: &Path) -> bool {
    [&TRAIN[..], &VALIDATION, &TEST].concat().into_iter().any(|name| is_named(folder, name))
}

fn is_named(folder: &Path, name: &str) -> bool {
    folder.file_name().and_then(|found| found.to_str()).is_some_and(|found| found.eq_ignore_ascii_case(name))
}

/// The parts that a folder holds; `None` where it is no folder, has other folders besides, or no part that trains.
///
/// # Errors
/// A folder that cannot be read; two parts for the same purpose.
pub fn parts(root: &Path) -> Result<Option<Parts>, Error> {
    if !root.is_dir() {
        return Ok(None);
    }
    let folders: Vec<PathBuf> = filesystem::visible(root)?.into_iter().filter(|path| path.is_dir()).collect();
    if folders.len() < 2 || !folders.iter().all(|folder| is_part(folder)) {
        return Ok(None);
    }
    let one = |names: &[&str]| -> Result<Option<PathBuf>, Error> {
        let found: Vec<&PathBuf> =
            folders.iter().filter(|folder| names.iter().any(|name| is_named(folder, name))).collect();
        match found[..] {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            [one, other, ..] => {
                let problem =
                    format!("this and {} are for the same purpose; name the data one by one", other.display());
                Err(Error::content(one, problem))
            }
        }
    };
    let Some(train) = one(&TRAIN)? else { return Ok(None) };
    Ok(Some(Parts { train, val: one(&VALIDATION)?, test: one(&TEST)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn parts_are_told_from_classes() {
        let found = |names: &[&str]| {
            let root = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
            let optional = |path: Option<PathBuf>| path.map_or_else(String::new, name);
            let parts = parts(root.path()).map_err(|error| error.to_string());
            parts.map(|parts| parts.map(|parts| [name(parts.train), optional(parts.val), optional(parts.test)]))
        };
        let three = |train: &str, val: &str, test: &str| Ok(Some([train, val, test].map(String::from)));
        assert_eq!(found(&["train", "val", "test", ".git"]), three("train", "val", "test"));
        assert_eq!(found(&["Training", "Validation"]), three("Training", "Validation", ""));
        assert_eq!(found(&["train", "test"]), three("train", "", "test"));
        for classes in [&["train", "ship"][..], &["train"], &["test", "val"], &[], &["cat", "dog"]] {
            assert_eq!(found(classes), Ok(None), "{classes:?}");
        }
        assert!(found(&["train", "val", "valid"]).unwrap_err().contains("same purpose"));
        assert_eq!(parts(Path::new("/no/such/folder")).unwrap(), None);
    }
}
