//! Ctrl-C and SIGTERM as a flag.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The exit code after a signal, as shells count it for Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Sets the flag on Ctrl-C or SIGTERM; a Ctrl-C after that ends the process at once. A further SIGTERM does not: whoever sends
/// one to a process and its group, as timeout(1) and service managers do, sends two, and would lose the checkpoint.
pub fn flag_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // In this order: the shutdown looks at the flag before it is set.
    flag::register_conditional_shutdown(SIGINT, INTERRUPTED.into(), stop.clone())
        .context("cannot watch for signals")?;
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, stop.clone()).context("cannot watch for signals")?;
    }
    Ok(stop)
}

/// Sets the flag on each SIGHUP.
pub fn flag_on_hangup() -> Result<Arc<AtomicBool>> {
    let reload = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, reload.clone()).context("cannot watch for signals")?;
    Ok(reload)
}

/// Asks a process to end. One that has ended already needs no asking.
pub fn terminate(process: u32) {
    if let Some(process) = Pid::from_raw(process as i32) {
        let _ = rustix::process::kill_process(process, Signal::TERM);
    }
}

/// Ends this process when `parent` does: a trainer whose agent was killed would write into another agent's state.
///
/// # Errors
/// A parent that has ended already, or none.
pub fn end_with(parent: &str) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let lives = rustix::process::getppid().is_some_and(|id| id.as_raw_nonzero().to_string() == parent);
    lives.then_some(()).with_context(|| format!("the process {parent}, which started this one, has ended"))
}
