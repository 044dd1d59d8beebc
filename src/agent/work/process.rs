//! edgetune's own program as a process of the service's: what crashes or is killed for its memory there is not the service, which
//! gets all of its memory back.

use super::request::Request;
use crate::agent::config::Config;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// edgetune's own program, to work for this state. It ends with this process.
pub(super) fn edgetune(program: &Path, cache: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--cache").arg(cache);
    command.env("EDGETUNE_PARENT", std::process::id().to_string());
    command
}

/// A process that does what `request` says; its standard input stays open.
///
/// # Errors
/// A program that cannot be started, a request that cannot be sent.
pub(super) fn start(program: &Path, config: &Config, request: &Request, (out, err): (Stdio, Stdio)) -> Result<Child> {
    let mut command = edgetune(program, &cache(config));
    command.args(["agent", "work"]).stdin(Stdio::piped()).stdout(out).stderr(err);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let sent = request.send(child.stdin.as_mut().expect("its standard input is a pipe"));
    if let Err(error) = sent {
        // Without its request it would wait for ever.
        let _ = child.kill().and_then(|()| child.wait());
        return Err(error).with_context(|| format!("cannot ask {} to work", program.display()));
    }
    Ok(child)
}

/// Where its processes keep what they can make again.
pub fn cache(config: &Config) -> PathBuf {
    config.state.join("cache")
}
