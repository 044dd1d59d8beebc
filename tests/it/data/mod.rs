//! Data as users bring them: good folders, tables, texts and arrays, and each way in which they can be wrong.

mod boxes;
mod brought;
mod groups;
mod images;
mod sensors;
mod sounds;
mod spreadsheets;
mod tables;

use edgetune::data::{Dataset, Options};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

/// Opening must fail; gives the message.
fn refusal(path: &Path, options: &Options) -> String {
    Dataset::open(path, options).map(|_| ()).unwrap_err().to_string()
}
