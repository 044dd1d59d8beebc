//! Why what a recipe asks for cannot be done.

use crate::{adapter, cut, data, engine, host, train};
use std::io;
use std::path::PathBuf;

/// Why a recipe cannot be used, or a training or prediction by it not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is asked for is out of its range, has no effect, or does not fit the model or the data. The text names the setting
    /// and the remedy.
    #[error("{0}")]
    Refused(String),
    /// What was learned costs more of what the base knew than setting `retention.keep-base` allows. The text says how much.
    #[error("{0}")]
    Forgets(String),
    /// What was learned does not meet a gate of the recipe. The text names the gate, what was measured and the remedy.
    #[error("{0}")]
    Gate(String),
    /// The recipe's file.
    #[error("the recipe {}: cannot be read; check the path and that this user may read the file: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder of the user's.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stop flag was raised before there was a result.
    #[error("stopped before anything was learned")]
    Stopped,
    /// Where bundles and features are kept.
    #[error(transparent)]
    Folder(#[from] host::FolderError),
    /// The model, the data, ONNX Runtime or the training itself.
    #[error(transparent)]
    Train(#[from] train::Error),
}

/// Ends a function with [`Error::Refused`].
macro_rules! refuse {
    ($($text:tt)*) => { return Err($crate::recipe::Error::Refused(format!($($text)*))) };
}
pub(crate) use refuse;

macro_rules! from_a_stage {
    ($($error:ty),*) => { $(impl From<$error> for Error {
        fn from(error: $error) -> Self {
            Error::Train(error.into())
        }
    })* };
}
from_a_stage!(adapter::Error, cut::Error, data::Error, engine::Error);
