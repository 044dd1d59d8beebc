//! `edgetune ledger show`.

use super::{broken, open};
use crate::agent::record::ledger;
use crate::cli::Done;
use crate::cli::commands::agent::history::line;
use crate::cli::print::Printer;
use anyhow::Result;
use std::path::Path;

pub(super) fn run(path: &Path, printer: &Printer) -> Result<Done> {
    let mut events = Vec::new();
    let walked = ledger::walk(open(path)?, &[], &mut |entry| {
        printer.text(line(&entry.what));
        events.push(entry.what);
    });
    walked.map_err(|fault| broken(path, &fault))?;
    printer.document(&events);
    Ok(Done::Fully)
}
