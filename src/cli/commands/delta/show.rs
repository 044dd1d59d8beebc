//! `edgetune delta show`.

use crate::cli::delta_report;
use crate::cli::deltas::File;
use crate::cli::print::Printer;
use anyhow::Result;
use std::path::PathBuf;

/// Show what a delta contains: base, recipe, classes, tensors, accuracy, signature
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune delta show A.edelta --json")]
pub struct Args {
    /// The delta
    delta: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let file = File::read(&args.delta)?;
    let report = delta_report::describe(&file.parsed()?, file.bytes.len());
    printer.document(&report);
    delta_report::print(&report, printer);
    Ok(())
}
