//! Ctrl-C and SIGTERM as a flag.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The exit code after a signal, as shells count it for Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Sets the flag on the first Ctrl-C or SIGTERM; the second one ends the process at once.
pub fn flag_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the shutdown looks at the flag before it is set.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), stop.clone())
            .context("cannot watch for signals")?;
        flag::register(signal, stop.clone()).context("cannot watch for signals")?;
    }
    Ok(stop)
}
