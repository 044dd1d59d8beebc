//! `edgetune prepare`: the graphs that a training run would use, as files to look at or to ship.

use crate::adapter;
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::change::ChangeArgs;
use crate::cli::outputs::{Files, Replacing};
use crate::cli::print::Printer;
use crate::cli::summary;
use crate::data::{Labels, Lines, Masks};
use crate::engine;
use crate::learn;
use crate::learn::samples::class_names;
use crate::recipe::{self, Change, LossName, Recipe};
use crate::train::prepare::Base;
use crate::train::step::Again;
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
    /// The number of classes, or a file with one class name a line [default: the model's own outputs]
    #[arg(long, value_name = "N|FILE")]
    classes: Option<String>,
    /// What to minimise [default: cross-entropy]
    #[arg(long, value_enum)]
    loss: Option<LossName>,
    /// Which of the model's outputs to train on
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Dimension of the inputs that is the batch, counted from 0 [default: the one called batch or N, else the first]
    #[arg(long, value_name = "N")]
    batch_axis: Option<u32>,
    /// The folder that is written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    Files::default().reads("the model", [&args.model]).fills("--out", &args.out, &[]).check(Replacing::default())?;
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || Base::read_with(&args.model, args.batch_axis))?;
    let labels = match args.loss {
        Some(LossName::NextToken) => Labels::NextTokens(ndarray::Array2::default((0, 0))),
        Some(LossName::TokenCrossEntropy) => {
            Labels::Tokens { names: classes(args, &base)?, rows: ndarray::Array2::default((0, 0)) }
        }
        Some(LossName::Ctc) => Labels::Lines { names: classes(args, &base)?, lines: Lines::new(0, 0, []) },
        Some(loss) if loss.is_of_pixels() => Labels::Pixels { names: classes(args, &base)?, masks: Masks::new(0, 0) },
        Some(LossName::Coral) => Labels::Ordinal { names: classes(args, &base)?, index: vec![] },
        _ => Labels::Classes { names: classes(args, &base)?, index: vec![] },
    };
    let change = Change::from(args.change.clone());
    change.check()?;
    let (train, output) = (args.train.clone(), args.output.clone());
    let recipe = Recipe { train, output, change, loss: args.loss, ..Recipe::default() };
    let bundle = printer.during("preparing the model", || learn::bundle(&base, &recipe, &labels, &args.out))?;
    let step = bundle.step(&recipe::loss(args.loss, None), Again::Cheap)?;
    let weights = bundle.folder.join("weights.bin");
    let files: Vec<PathBuf> = bundle.files().map(PathBuf::from).chain([step, weights]).collect();
    summary::prepared(&bundle, &files, printer);
    Ok(Done::Fully)
}

/// The classes that were given, or as many as the model has outputs; of classes in an order one more.
fn classes(args: &Args, base: &Base) -> Result<Vec<String>> {
    if let Some(classes) = args.classes.as_deref() {
        return Ok(class_names(classes)?);
    }
    let positions = recipe::loss(args.loss, None).positions();
    let output = adapter::output_of(&base.graph, args.output.as_deref(), positions)?;
    let Some(width) = adapter::width(&base.graph, output, positions) else {
        bail!(
            "{}: its output does not tell how many classes there are; give their number or names with --classes",
            args.model.display()
        )
    };
    let count = width + u64::from(args.loss == Some(LossName::Coral));
    Ok((0..count).map(|class| class.to_string()).collect())
}
