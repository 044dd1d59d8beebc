//! `edgetune board`: trainings beside each other, from the reports that they have written.

use crate::cli::Done;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::page::board::{Run, board};
use crate::cli::print::{Printer, bytes, number, percent};
use crate::order::Order;
use crate::train::artifact;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Compare trainings by the reports that `train --report FILE.json` has written
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune train model.onnx --data photos/ --train head --report runs/head.json --out head.edelta\n  edgetune \
                  train model.onnx --data photos/ --train last:2 --report runs/last2.json --out last2.edelta\n  edgetune board runs/\n  edgetune \
                  board runs/ --out board.html\n\nThe best comes first, by accuracy and then by loss, on the test samples where a training had \
                  some. Trainings that were measured on other numbers of samples are not to be compared; the table shows how many there were."
)]
pub struct Args {
    /// A folder with reports, or reports
    #[arg(required = true, value_name = "FOLDER|REPORT.json")]
    reports: Vec<PathBuf>,
    /// Write a page for a browser, with the curves of all trainings in one picture
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let files = Files::default().writes("--out", &args.out, Kind::Page);
    files.check(args.replacing)?;
    let mut runs = Vec::new();
    for path in paths(&args.reports)? {
        match Run::read(&path)? {
            Some(run) => runs.push(run),
            None => printer.warn(format!("{} is no report of a training, and is left out", path.display())),
        }
    }
    if runs.is_empty() {
        let first = args.reports[0].display();
        bail!("{first}: no report of a training there; `edgetune train … --report FILE.json` writes one");
    }
    runs.order_by(Run::order);
    if let Some(out) = &args.out {
        artifact::save(out, board(&runs).as_bytes())?;
    }
    printer.document(&runs.iter().map(document).collect::<Vec<_>>());
    printer.text(format!(
        "{:<24} {:>9} {:>9} {:>9} {:>16} {:>7} {:>9} {:>10} {:>10}",
        "training", "before", "accuracy", "loss", "measured on", "epochs", "time", "memory", "delta"
    ));
    for run in &runs {
        let share = |share: Option<f64>| share.map_or("–".into(), percent);
        printer.text(format!(
            "{:<24} {:>9} {:>9} {:>9} {:>16} {:>7} {:>9} {:>10} {:>10}",
            run.name,
            share(run.before().and_then(|before| before.accuracy)),
            share(run.after().and_then(|after| after.accuracy)),
            run.after().map_or("–".into(), |after| number(after.loss)),
            run.measured_on(),
            run.epochs.len(),
            format!("{:.1} s", run.seconds),
            bytes(run.peak_private_bytes),
            bytes(run.delta_bytes)
        ));
    }
    Ok(Done::Fully)
}

/// The files that are meant: of a folder those that end in `.json`, by name.
fn paths(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in given {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        let is_json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let mut reports: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_json).collect();
        reports.sort();
        found.extend(reports);
    }
    Ok(found)
}

fn document(run: &Run) -> serde_json::Value {
    let metrics = |of: Option<&crate::train::evaluate::Metrics>| {
        of.map(|metrics| json!({ "accuracy": metrics.accuracy, "loss": metrics.loss, "samples": metrics.samples }))
    };
    json!({
        "name": run.name, "before": metrics(run.before()), "after": metrics(run.after()), "measured_on": run.measured_on(),
        "epochs": run.epochs.len(), "seconds": run.seconds, "peak_private_bytes": run.peak_private_bytes,
        "delta_bytes": run.delta_bytes, "train_samples": run.train_samples, "recipe": run.recipe, "base_hash": run.base_hash,
    })
}

impl Run {
    /// Reads a report; `None` where the file is another thing.
    fn read(path: &Path) -> Result<Option<Self>> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let Ok(mut run) = serde_json::from_str::<Run>(&text) else { return Ok(None) };
        run.name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Some(run))
    }
}
