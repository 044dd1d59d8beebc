//! `edgetune report`: a page about an adapter, from the adapter alone.

use crate::cli::deltas::File;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::page::adapter::adapter;
use crate::cli::print::Printer;
use crate::cli::{Done, delta_report};
use crate::train::artifact;
use anyhow::Result;
use std::path::PathBuf;

/// Write a page about an adapter, for a browser
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune report A.edelta --out A.html\n\nThe page has what the adapter says of itself: what was measured when it \
                  was learned, its base, classes, tensors and recipe, and who signed it. `train --report R.html` also has learning curves, \
                  confusion and mistakes, which no adapter holds."
)]
pub struct Args {
    /// The adapter
    delta: PathBuf,
    /// The page
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    Files::default().reads("DELTA", [&args.delta]).writes("--out", [&args.out], Kind::Page).check(args.replacing)?;
    let file = File::read(&args.delta)?;
    let report = delta_report::describe(&file.parsed()?, file.bytes.len());
    let name = args.delta.file_name().unwrap_or_default().to_string_lossy();
    artifact::save(&args.out, adapter(&report, &name).as_bytes())?;
    printer.document(&report);
    printer.text(format!("{} is written", args.out.display()));
    Ok(Done::Fully)
}
