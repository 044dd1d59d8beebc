//! Why something did not come about, and whether it may later.

use crate::sync::wire::{CHANNEL_RULE, is_channel};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a device's wish came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that no server can have.
    #[error("`{url}`: {problem}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// A text that can be no name.
    #[error("{what} is no name: it is empty, over 64 bytes or has control characters; give a plain one")]
    Name {
        /// What it was to be the name of, and the name.
        what: String,
    },
    /// A text that can be no channel's name.
    #[error("channel {name:?}: a channel's name has {}", CHANNEL_RULE)]
    Channel {
        /// The text.
        name: String,
    },
    /// A file of the folder, or one that was named.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody has enrolled this device.
    #[error("{folder}: this device is in no fleet; enrol it first: `edgetune fleet enroll URL --token-file FILE`")]
    NotEnrolled {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process works in the folder.
    #[error("{folder}: another edgetune works here; try again when it is done")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// No connection, or one that broke.
    #[error("{url} was not reached: {problem}; check the address and the line, then run the command again")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the system says.
        problem: String,
    },
    /// No trust in the line.
    #[error("{url}: {problem}")]
    Tls {
        /// The server's address.
        url: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The server has too much to do, or a problem of its own.
    #[error("the server cannot just now ({status}): {detail}")]
    Busy {
        /// The status of the answer.
        status: u16,
        /// What it says.
        detail: String,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// The server never will: the same delta counts for another device.
    #[error("the server refuses (409): {detail}")]
    Twice {
        /// What it says, with the remedy.
        detail: String,
    },
    /// The server does not do it.
    #[error("the server refuses ({status}): {detail}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// What it says, with the remedy.
        detail: String,
    },
    /// An answer that no edgetune-fleet gives.
    #[error("{url}: {problem}; check the address, and that both sides are of one version")]
    Answer {
        /// The server's address.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A release that is not to be used.
    #[error("channel `{channel}`: {problem}")]
    Release {
        /// Of this channel.
        channel: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl Error {
    /// Refuses what can be no channel's name.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub fn unless_channel(name: &str) -> Result<(), Self> {
        if is_channel(name) { Ok(()) } else { Err(Self::Channel { name: name.into() }) }
    }

    /// A file's.
    pub(super) fn file(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), problem: problem.to_string() }
    }

    /// Whether the same may go right a moment later, with nothing changed on this side.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// Whether the server will never take this delta, so that it need not be kept.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 404 | 413 | 422, .. } | Self::Twice { .. })
    }
}
