//! `edgetune doctor`: is this machine ready, and what would stand in the way; how a model runs best on it.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::benchmark::{Subject, show_nodes, show_rows};
use crate::cli::health::check_machine;
use crate::cli::print::Printer;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Check this machine and its ONNX Runtime, and how a model runs on it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune doctor --json\n  edgetune doctor model.onnx --provider xnnpack\n  edgetune doctor \
                  model.onnx --benchmark\n\n--json prints [{what, fine, found, remedy}]; with a model {machine: that list, nodes: \
                  [{provider, nodes, operators}], benchmark: [{provider, threads, body_ms, step_ms, sample_ms}], not_measured: \
                  [reason]}, the fastest first. `body_ms` is for a sample, `step_ms` for 32 in a training of the last layer, \
                  `sample_ms` what ten epochs take for a sample."
)]
pub struct Args {
    /// A model: shows how many of its nodes run on which provider
    model: Option<PathBuf>,
    /// Measure the model's body and steps with every provider and number of threads, and name the fastest
    #[arg(long, requires = "model", conflicts_with_all = ["threads", "provider"])]
    benchmark: bool,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let findings = check_machine(global);
    for finding in &findings {
        let mark = if finding.fine { "ok  " } else { "FAIL" };
        printer.text(format!("{mark}  {:<10} {}", finding.what, finding.found));
        if let Some(remedy) = &finding.remedy {
            printer.text(format!("      {:<10} → {remedy}", ""));
        }
    }
    let ready = findings.iter().all(|finding| finding.fine);
    match &args.model {
        Some(model) if ready => {
            let subject = Subject::new(model, global)?;
            let nodes = subject.nodes(model, &args.compute, global)?;
            show_nodes(&nodes, printer);
            let (rows, left_out) = if args.benchmark { subject.benchmark(&args.compute)? } else { Default::default() };
            if args.benchmark {
                show_rows(&rows, &left_out, printer);
            }
            printer
                .document(&json!({ "machine": findings, "nodes": nodes, "benchmark": rows, "not_measured": left_out }));
        }
        _ => printer.document(&findings),
    }
    if !ready {
        bail!("this machine is not ready; see the remedies above");
    }
    Ok(Done::Fully)
}
