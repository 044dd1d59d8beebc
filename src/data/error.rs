//! What can be wrong with data. Each message names the file and line, or the setting, and what to do.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read ({source}); check the path and that this user may read it", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A setting is out of its range or unreadable.
    #[error("`{setting}` = `{value}`: {problem}")]
    Setting {
        /// The setting's name in recipes.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// A file or folder does not hold what is needed.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A line of a table or text file is unusable.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Error {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    pub(super) fn setting(setting: &'static str, value: impl Display, problem: impl Into<String>) -> Self {
        Error::Setting { setting, value: value.to_string(), problem: problem.into() }
    }

    pub(super) fn content(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Content { path: path.as_ref().into(), problem: problem.into() }
    }

    pub(super) fn line(path: impl AsRef<Path>, line: u64, problem: impl Into<String>) -> Self {
        Error::Line { path: path.as_ref().into(), line, problem: problem.into() }
    }
}
