//! `edgetune doctor`: is this machine ready, and what would stand in the way.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::health::look;
use crate::cli::print::Printer;
use anyhow::{Result, bail};

/// Check this machine: ONNX Runtime, C library, processor, memory, cache
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune doctor --json")]
pub struct Args {}

pub fn run(_args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let findings = look(global);
    printer.document(&findings);
    for finding in &findings {
        let mark = if finding.fine { "ok  " } else { "FAIL" };
        printer.text(format!("{mark}  {:<10} {}", finding.what, finding.found));
        if let Some(remedy) = &finding.remedy {
            printer.text(format!("      {:<10} → {remedy}", ""));
        }
    }
    match findings.iter().all(|finding| finding.fine) {
        true => Ok(Done::Fully),
        false => bail!("this machine is not ready; see the remedies above"),
    }
}
