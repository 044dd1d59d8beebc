//! `edgetune retention make`.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::change::ChangeArgs;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::{Printer, bytes, number, percent};
use crate::cli::sample_args::SamplesArgs;
use crate::cli::stop::flag_on_signals;
use crate::learn::{self, Job};
use crate::recipe::{LossName, Recipe, amount_bytes};
use anyhow::Result;
use std::path::PathBuf;
use std::time::Instant;

/// Samples that are written where nothing else is said: of each class, and of text in all.
const EACH: usize = 30;
const TEXTS: usize = 64;

/// Write the features of samples that a base knows
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune retention make model.onnx --data known/ --out base.retention\n\nThe file holds features and \
                  labels, bound to the model and to what learns: name --train, --adapter or --from here as the trainings will."
)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Data of what the model knows: of its own classes, or text
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The file that is written
    #[arg(long, value_name = "FILE", default_value = "base.retention")]
    out: PathBuf,
    /// Samples of each class; of text, samples in all [default: 30; 64]
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Bytes of features, at most: classes have fewer samples then
    #[arg(long, value_name = "BYTES", default_value = "8MiB")]
    size_max: String,
    /// What will learn: head, last:N, or a pattern over names [default: head]
    #[arg(long, value_name = "SPEC", help_heading = "What learns")]
    train: Vec<String>,
    /// Adapter that the trainings will go on from
    #[arg(long, value_name = "FILE", help_heading = "What learns")]
    from: Option<PathBuf>,
    /// The output that will be trained
    #[arg(long, value_name = "NAME", help_heading = "What learns")]
    output: Option<String>,
    /// Names of the outputs of the model, in their order
    #[arg(long, value_name = "FILE|NAMES", help_heading = "What learns")]
    classes: Option<String>,
    /// What the trainings will minimise
    #[arg(long, value_enum, help_heading = "What learns")]
    loss: Option<LossName>,
    /// Decides which samples are taken
    #[arg(long, value_name = "N", help_heading = "Data")]
    seed: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    samples: SamplesArgs,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let bytes_max = amount_bytes("size-max", &args.size_max)?;
    let recipe = Recipe {
        model: Some(args.model.clone()),
        data: Some(args.data.clone()),
        train: args.train.clone(),
        from: args.from.clone(),
        output: args.output.clone(),
        classes: args.classes.clone(),
        loss: args.loss,
        seed: args.seed,
        val_fraction: Some(0.0),
        change: args.change.clone().into(),
        samples: args.samples.clone().into(),
        ..Recipe::default()
    };
    let files = Files::of_recipe(&recipe).cache(global);
    files.writes("--out", [&args.out], Kind::Retention).check(args.replacing)?;
    let stop = flag_on_signals()?;
    let context = global.context(&args.compute, began, &stop, printer)?;
    let job = Job { recipe, ..Job::default() };
    let count = (args.count.unwrap_or(EACH), args.count.unwrap_or(TEXTS));
    let Some(made) = learn::make_retention(&job, &context, (count, bytes_max), &args.out)? else {
        return Ok(Done::Interrupted);
    };
    printer.document(&made);
    let (metrics, size) = (&made.metrics, bytes(made.bytes));
    printer.text(match (metrics.perplexity, metrics.accuracy) {
        (Some(perplexity), _) => format!("knows     perplexity {} on {} samples", number(perplexity), made.samples),
        (_, Some(accuracy)) => format!("knows     {} of {} samples", percent(accuracy), made.samples),
        _ => format!("knows     loss {} on {} samples", number(metrics.loss), made.samples),
    });
    printer.text(format!("retention {} ({size})", args.out.display()));
    Ok(Done::Fully)
}
