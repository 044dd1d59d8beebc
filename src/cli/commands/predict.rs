//! `edgetune predict`: answers of the model with an adapter.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::generation::{self, Generating};
use crate::cli::predictions::predict;
use crate::cli::print::{Printer, percent};
use crate::cli::run::inputs_of;
use crate::cli::samples::{self, Reading};
use crate::cli::stop::flag_on_signals;
use crate::data::{Dataset, Target};
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use anyhow::Result;
use std::path::PathBuf;
use std::sync::Arc;

/// Predict with a model and an adapter
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune predict model.onnx --adapter A.edelta photo.jpg other.png --top 3\n  edgetune \
                  predict lm.onnx --adapter A.edelta --tokenizer tokenizer.json --prompt \"Once upon\" --temperature 0.8"
)]
pub struct Args {
    /// The model that the adapter was trained on
    model: PathBuf,
    /// The adapter; a language model also goes on from a prompt without one
    #[arg(long, value_name = "FILE", required_unless_present = "prompt")]
    adapter: Option<PathBuf>,
    /// Images or folders of them, or one table, text or array file
    #[arg(required_unless_present = "prompt", value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Classes to show for each sample
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// With the base's own values in place of what was learned; nothing where the base has no such classes
    #[arg(long, hide = true)]
    untrained: bool,
    #[command(flatten)]
    generating: Generating,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let adapter = args.adapter.as_deref().map(Adapter::read).transpose()?;
    let goes_on = generation::is_asked(adapter.as_ref(), &args.generating)?;
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let (bundles, stop) = (global.bundles()?, flag_on_signals()?);
    let adapter = match adapter {
        Some(adapter) if !goes_on => adapter,
        other => {
            let asked = (&args.generating, args.inputs.as_slice(), &args.reading);
            return generation::generate((&base, other.as_ref()), asked, &args.compute, (global, printer), &stop);
        }
    };
    let Some(adapter) = (if args.untrained { adapter.untrained(&base, &bundles)? } else { Some(adapter) }) else {
        printer.document(&Vec::<()>::new());
        return Ok(Done::Fully);
    };
    let preprocessing = samples::of_adapter(adapter.preprocessing, &args.inputs[0], printer);
    let options = samples::options(preprocessing, args.reading.clone(), &inputs_of(&base), Target::Classes, None);
    let (dataset, skipped) = Dataset::open_unlabelled(&args.inputs, &options)?;
    samples::tell_skipped(&skipped, printer);
    let known = (&adapter, &base, bundles.as_path());
    let found = predict(known, &Arc::new(dataset), args.top.into(), &args.compute, &stop, printer)?;
    let Some(predictions) = found else { return Ok(Done::Interrupted) };
    printer.document(&predictions);
    for prediction in &predictions {
        let scored =
            prediction.classes.iter().map(|class| format!("{} {}", class.name, percent(class.probability.into())));
        let answers: Vec<String> = scored.chain(prediction.values.iter().map(f32::to_string)).collect();
        printer.text(format!("{}: {}", prediction.input, answers.join(", ")));
    }
    Ok(Done::Fully)
}
