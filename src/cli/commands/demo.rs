//! `edgetune demo`: a real model, real photographs, the whole way.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::predictions::{Prediction, predict};
use crate::cli::print::{Printer, bytes, percent};
use crate::cli::recipe::Recipe;
use crate::cli::run::{self, Job, inputs_of};
use crate::cli::samples;
use crate::cli::stop::flag_on_signals;
use crate::data::{Dataset, Target};
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::checkpoint;
use crate::train::prepare::Base;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Fine-tune the model in `models/` on the photographs beside it and show the gain
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune demo --json")]
pub struct Args {
    /// The folder with the demo's model, data and recipe
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Where the delta goes
    #[arg(long, value_name = "FILE", default_value = "demo.edelta")]
    out: PathBuf,
    /// One epoch of the head on a few photographs, for slow or emulated machines
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Samples that the demo predicts at the end.
const SHOWN: usize = 5;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let file = args.models.join(if args.quick { "demo-quick.toml" } else { "demo.toml" });
    let mut recipe = Recipe::read(&file).context("the demo runs in the project's folder, or with --models DIR")?;
    let model = recipe.model.clone().context("the demo's recipe names no model")?;
    let test = recipe.test.take().context("the demo's recipe names no test data")?;
    engine::load_or_install(&global.choice(), &mut printer.installing())?;
    printer.note(format!("model     {}", model.display()));
    recipe.test = Some(test.clone());
    let stop = flag_on_signals()?;
    let job = Job { recipe, compute: &args.compute, out: &args.out, resume: false, no_cache: false, began };
    let trained = run::train(&job, global, printer, &stop)?;
    if trained.interrupted {
        checkpoint::remove(&run::checkpoint_path(&args.out))?;
        return Ok(Done::Interrupted);
    }
    let (before, after) = trained.measured.context("the demo's test data are empty")?;
    let Some(shown) = show(args, (&model, &test), (global, printer), &stop)? else { return Ok(Done::Interrupted) };
    let report = &trained.report;
    let seconds = began.elapsed().as_secs_f64();
    let (accuracy_before, accuracy_after) = (before.accuracy.unwrap_or(0.0), after.accuracy.unwrap_or(0.0));
    printer.document(&json!({
        "accuracy_before": accuracy_before, "accuracy_after": accuracy_after, "seconds": seconds,
        "delta_bytes": report.delta_bytes, "peak_private_bytes": report.peak_private_bytes,
        "test_samples": after.samples, "train_samples": report.train_samples, "onnxruntime": report.versions.onnxruntime,
        "predictions": shown.iter().map(|(file, class, probability)| json!({
            "input": file, "class": class, "probability": probability,
        })).collect::<Vec<_>>(),
    }));
    for (file, class, probability) in &shown {
        printer.text(format!("  {file}: {class} {}", percent((*probability).into())));
    }
    printer.text(format!(
        "accuracy  {} → {} on {} photographs it never trained on",
        percent(accuracy_before),
        percent(accuracy_after),
        after.samples
    ));
    printer.text(format!("time      {seconds:.1} s"));
    printer.text(format!("memory    {} private at its peak", bytes(report.peak_private_bytes)));
    printer.text(format!("delta     {} ({})", args.out.display(), bytes(report.delta_bytes)));
    let (model, out, test) = (model.display(), args.out.display(), test.display());
    printer.text("next:");
    printer.text(format!("  edgetune eval {model} --adapter {out} --data {test}"));
    printer.text(format!("  edgetune inspect {model}"));
    printer.text(format!("  edgetune train {model} --data YOUR_FOLDER --train last:2 --out A.edelta"));
    Ok(Done::Fully)
}

/// Reads the delta back and predicts a few test samples of different classes with it: file, class, probability.
fn show(
    args: &Args,
    (model, test): (&Path, &Path),
    (global, printer): (&Global, &Printer),
    stop: &AtomicBool,
) -> Result<Option<Vec<(String, String, f32)>>> {
    let adapter = Adapter::read(&args.out)?;
    let base = Base::read(model)?;
    let mut files = Vec::new();
    for class in adapter.labels.iter().take(SHOWN) {
        let mut images: Vec<PathBuf> =
            std::fs::read_dir(test.join(class))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        images.sort();
        files.extend(images.into_iter().next());
    }
    let reading = samples::Reading::default();
    let options = samples::options(adapter.preprocessing, reading, &inputs_of(&base), Target::Classes, None);
    let (dataset, _) = Dataset::open_unlabelled(&files, &options)?;
    let known = (&adapter, &base, &*global.bundles()?);
    let Some(predictions) = predict(known, &Arc::new(dataset), 1, &args.compute, stop, printer)? else {
        return Ok(None);
    };
    let best = |mut prediction: Prediction| {
        let best = prediction.classes.pop()?;
        Some((prediction.input, best.name, best.probability))
    };
    Ok(Some(predictions.into_iter().filter_map(best).collect()))
}
