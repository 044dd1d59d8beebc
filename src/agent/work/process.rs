//! edgetune's own program as a process of the service's: what crashes or is killed for its memory there is not the service, which
//! gets all of its memory back.

use crate::agent::config::Config;
use std::path::{Path, PathBuf};
use std::process::Command;

/// edgetune's own program, to work for this state. It ends with this process.
pub(super) fn edgetune(program: &Path, cache: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--cache").arg(cache);
    command.env("EDGETUNE_PARENT", std::process::id().to_string());
    command
}

/// Where its processes keep what they can make again.
pub fn cache(config: &Config) -> PathBuf {
    config.state.join("cache")
}
