//! `edgetune eval`: measure an adapter on labelled data.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::outputs::{Files, Replacing};
use crate::cli::print::Printer;
use crate::cli::sample_args::ReadingArgs;
use crate::cli::stop::flag_on_signals;
use crate::cli::summary;
use crate::engine;
use crate::learn::samples::{self, inputs_of};
use crate::learn::{Context, Forward, lines, settings};
use crate::recipe::Reading;
use crate::task;
use crate::train::artifact::Adapter;
use crate::train::loss::Loss;
use anyhow::Result;
use std::path::{Path, PathBuf};
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
    /// The loss of your own that the adapter was trained with
    #[arg(long, value_name = "FILE.onnx")]
    loss: Option<PathBuf>,
    /// Join rows of text into sequences of full length, for a language model
    #[arg(long)]
    packing: bool,
    /// Keep features in memory for this run only
    #[arg(long, help_heading = "Run")]
    no_cache: bool,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let data = &tested(&args.data, printer)?;
    Files::default().data("--data", [data]).cache(global).check(Replacing::default())?;
    let adapter = Adapter::read(&args.adapter)?;
    engine::load(&global.choice())?;
    let loss = settings::loss_to_measure(&adapter, args.loss.as_deref())?;
    let base = printer.during("reading the model", || adapter.base(&args.model))?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    let classes = (!adapter.labels.is_empty()).then(|| adapter.labels.clone());
    let preprocessing = samples::of_adapter(&adapter.preprocessing, data, printer);
    let reading = Reading { packing: args.packing, ..args.reading.clone().into() };
    let mut options = samples::options(
        preprocessing.clone(),
        samples::with_tokenizer(reading, &base, (Some(&args.adapter), &preprocessing), printer),
        &inputs_of(&base),
        task::of_wire(adapter.task).target,
        classes,
    );
    match &loss {
        Loss::File(own) => samples::label_for(own, &mut options),
        Loss::Boxes { .. } => samples::boxes_for(&base, &mut options)?,
        Loss::Ctc => lines::steps_for(&base, Some(&adapter.output), &mut options)?,
        _ => {}
    }
    let (dataset, _) = samples::open(data, &options, printer)?;
    let dataset = Arc::new(dataset);
    samples::refuse_other_width(&dataset, bundle.width)?;
    let stop = flag_on_signals()?;
    let context = global.context(&args.compute, began, &stop, printer)?;
    let context = &Context { keeps_features: !args.no_cache, ..context };
    let options = &context.computing.options();
    let forward = Forward { context, bundle: &bundle, options, preprocessing: &preprocessing };
    let all: Vec<usize> = (0..dataset.len()).collect();
    let found = forward.measure("measuring", &dataset, &all, (&[&values], &loss))?;
    let Some(answers) = found else { return Ok(Done::Interrupted) };
    context.observer.warn_once(&answers.warnings);
    summary::measured(&answers.found[0], printer);
    Ok(Done::Fully)
}

/// The data to measure on: of a folder that holds `train` and `test`, the latter.
fn tested(data: &Path, printer: &Printer) -> Result<PathBuf> {
    match crate::data::parts(data)?.and_then(|parts| parts.test) {
        Some(test) => {
            printer.note(format!("parts     {} is measured", test.display()));
            Ok(test)
        }
        None => Ok(data.into()),
    }
}
