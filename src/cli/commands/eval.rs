//! `edgetune eval`: measure an adapter on labelled data.

use crate::cli::Done;
use crate::cli::args::{Compute, Global, Samples, data_options, file_bytes};
use crate::cli::print::{Printer, percent};
use crate::cli::run::{inputs_of, tell_skipped};
use crate::data::{Dataset, Target};
use crate::delta::Task;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::evaluate;
use crate::train::features::{Features, Store};
use crate::train::prepare::Base;
use anyhow::Result;
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
    samples: Samples,
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
    let options = data_options(adapter.preprocessing, &args.samples, &inputs_of(&base), target, classes);
    let (dataset, skipped) = Dataset::open(&args.data, &options)?;
    tell_skipped(&skipped, printer);
    let dataset = Arc::new(dataset);
    let all: Vec<usize> = (0..dataset.len()).collect();
    let engine_options = args.compute.options(file_bytes(&args.model));
    let clock = Arc::new(move || began.elapsed().as_secs_f64());
    let mut features = Features::open(&bundle, dataset.clone(), &all, &[], Store::Memory, &engine_options, clock)?;
    let progress = printer.progress("measuring", all.len() as u64, "samples");
    for chunk in all.chunks(64) {
        features.batch(chunk)?;
        progress.at(chunk.last().map_or(0, |last| *last as u64 + 1), String::new());
    }
    progress.end();
    let mut tail = engine::Session::from_file(&bundle.tail, &engine_options)?;
    let parameters = evaluate::shipped(&bundle.parameters, &values);
    let metrics = evaluate::evaluate(&mut tail, &mut features, &all, &parameters, dataset.labels(), &adapter.loss)?;
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
    Ok(Done::Fully)
}
