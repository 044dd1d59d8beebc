//! `edgetune prepare`: the graphs that a training run would use, as files to look at or to ship.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::change::ChangeArgs;
use crate::cli::outputs::{Files, Replacing};
use crate::cli::print::Printer;
use crate::cli::summary;
use crate::data::{Labels, Masks};
use crate::engine;
use crate::learn;
use crate::learn::samples::class_names;
use crate::recipe::{self, Change, LossName, Recipe};
use crate::train::prepare::Base;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Write the graphs that a training run would use: body, tail and step
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune prepare model.onnx --train last:2 --classes 10 --out bundle/")]
pub struct Args {
    /// The model
    model: PathBuf,
    /// What learns: head, last:N, or a pattern over node and initializer names; repeatable
    #[arg(long, value_name = "SPEC")]
    train: Vec<String>,
    /// The number of classes, or a file with one class name a line; a language model has none
    #[arg(long, value_name = "N|FILE", required_unless_present = "loss")]
    classes: Option<String>,
    /// What to minimise [default: cross-entropy]
    #[arg(long, value_enum)]
    loss: Option<LossName>,
    /// Which of the model's outputs to train on
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// The folder that is written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    Files::default().reads("the model", [&args.model]).fills("--out", &args.out, &[]).check(Replacing::default())?;
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || Base::read(&args.model))?;
    let labels = match (args.classes.as_deref(), args.loss) {
        (None, Some(LossName::NextToken)) => Labels::NextTokens(ndarray::Array2::default((0, 0))),
        (Some(classes), Some(LossName::TokenCrossEntropy)) => {
            Labels::Tokens { names: class_names(classes)?, rows: ndarray::Array2::default((0, 0)) }
        }
        (Some(classes), Some(loss)) if loss.is_of_pixels() => {
            Labels::Pixels { names: class_names(classes)?, masks: Masks::new(0, 0) }
        }
        (Some(classes), Some(LossName::Coral)) => Labels::Ordinal { names: class_names(classes)?, index: vec![] },
        (Some(classes), _) => Labels::Classes { names: class_names(classes)?, index: vec![] },
        (None, _) => bail!("--classes: give the number of classes, or a file with one class name a line"),
    };
    let change = Change::from(args.change.clone());
    change.check()?;
    let (train, output) = (args.train.clone(), args.output.clone());
    let recipe = Recipe { train, output, change, loss: args.loss, ..Recipe::default() };
    let bundle = printer.during("preparing the model", || learn::bundle(&base, &recipe, &labels, &args.out))?;
    let step = bundle.step(&recipe::loss(args.loss, None))?;
    let weights = bundle.folder.join("weights.bin");
    let files: Vec<PathBuf> = bundle.files().map(PathBuf::from).chain([step, weights]).collect();
    summary::prepared(&bundle, &files, printer);
    Ok(Done::Fully)
}
