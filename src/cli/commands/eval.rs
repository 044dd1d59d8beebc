//! `edgetune eval`: measure an adapter on labelled data.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::forward::Forward;
use crate::cli::print::{Printer, percent};
use crate::cli::run::inputs_of;
use crate::cli::samples::{self, Reading};
use crate::cli::stop::flag_on_signals;
use crate::data::{Labels, Target};
use crate::delta::Task;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::evaluate::{self, Metrics};
use crate::train::features::Store;
use crate::train::prepare::Base;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Measure an adapter on labelled data
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune eval model.onnx --adapter A.edelta --data photos/test --json")]
pub struct Args {
    /// The model that the adapter was trained on
    model: PathBuf,
    /// The adapter
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Labelled data, in any form that `train` takes
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let adapter = Adapter::read(&args.adapter)?;
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    let target = match adapter.task {
        Task::MultiLabel => Target::MultiLabel,
        Task::Regression => Target::Values,
        _ => Target::Classes,
    };
    let classes = (!adapter.labels.is_empty()).then(|| adapter.labels.clone());
    let preprocessing = samples::of_adapter(adapter.preprocessing, &args.data, printer);
    let options = samples::options(preprocessing, args.reading.clone(), &inputs_of(&base), target, classes);
    let (dataset, _) = samples::open(&args.data, &options, printer)?;
    match dataset.labels() {
        Labels::Values(rows) if rows.ncols() as u64 != bundle.width => bail!(
            "--data: {} label columns, but the adapter gives {}; name its columns with --label",
            rows.ncols(),
            bundle.width
        ),
        _ => {}
    }
    let forward = Forward {
        bundle: &bundle,
        options: &args.compute.options(&base),
        store: Store::Memory,
        preprocessing: &[],
        stop: &*flag_on_signals()?,
        clock: Arc::new(move || began.elapsed().as_secs_f64()),
    };
    let all: Vec<usize> = (0..dataset.len()).collect();
    let found = forward.run("measuring", &dataset, &all, &[&values], printer)?;
    let Some(answers) = found else { return Ok(Done::Interrupted) };
    tell(&evaluate::metrics(&answers.rows[0], &all, dataset.labels(), &adapter.loss), printer);
    Ok(Done::Fully)
}

fn tell(metrics: &Metrics, printer: &Printer) {
    let per_class: serde_json::Map<String, serde_json::Value> = metrics
        .per_class
        .iter()
        .map(|class| (class.name.clone(), json!({ "accuracy": class.recall, "samples": class.samples })))
        .collect();
    printer.document(&json!({
        "accuracy": metrics.accuracy, "loss": metrics.loss, "samples": metrics.samples, "per_class": per_class,
    }));
    if let Some(accuracy) = metrics.accuracy {
        printer.text(format!("accuracy  {} of {} samples", percent(accuracy), metrics.samples));
    }
    printer.text(format!("loss      {:.4}", metrics.loss));
    for class in &metrics.per_class {
        printer.text(format!("  {:<20} {:>7} of {}", class.name, percent(class.recall), class.samples));
    }
}
