//! `edgetune check`: proof of a tail's gradient on this machine.

use crate::adapter::{self, HeadChoice, Request};
use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::change::ChangeArgs;
use crate::cli::print::Printer;
use crate::cli::values::{LossArg, LossParser};
use crate::cut::{self, Selection};
use crate::engine;
use crate::learn;
use crate::recipe::{self, Change};
use crate::train::check::{self, Agreement, Checked};
use crate::train::loss::Loss;
use crate::train::own_loss;
use crate::train::prepare::{Base, prepare};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Compare the gradient of a tail with how its loss moves, for each parameter
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune check model.onnx --train last:3")]
pub struct Args {
    /// The model
    model: PathBuf,
    /// What learns: head, last:N, or a pattern over node and initializer names; repeatable
    #[arg(long, value_name = "SPEC")]
    train: Vec<String>,
    /// The number of classes [default: the model's own]
    #[arg(long, value_name = "N")]
    classes: Option<u64>,
    /// What to minimise [default: what the output calls for, which is printed; else cross-entropy]
    #[arg(long, value_parser = LossParser)]
    loss: Option<LossArg>,
    /// Which of the model's outputs to train on
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Dimension of the inputs that is the batch, counted from 0 [default: the one called batch or N, else the first]
    #[arg(long, value_name = "N")]
    batch_axis: Option<u32>,
    /// Decides the random samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || Base::read_with(&args.model, args.batch_axis))?;
    let selections = args.train.iter().map(|text| Selection::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let output = args.output.as_deref();
    let loss = match args.loss.clone() {
        Some(LossArg::File(path)) => Loss::File(own_loss::read(&path)?),
        None if args.classes.is_none_or(|classes| classes == 1) => guessed(&base, output, printer)?,
        named => recipe::loss(LossArg::settings(named).0, None),
    };
    let change = Change::from(args.change.clone());
    change.check()?;
    let request = Request {
        output,
        selections: &selections,
        method: change.method(),
        places: change.places()?,
        seed: args.seed,
        width: args.classes,
        head: HeadChoice::Auto,
        activation: Some(loss.activation()),
        positions: loss.positions(),
    };
    let bundles = global.bundles()?;
    let bundle = printer.during("preparing the model", || prepare(&base, &request, &bundles))?;
    let options = args.compute.options();
    let checked =
        printer.during("comparing each parameter's gradient", || check::check(&bundle, &loss, &options, args.seed))?;
    tell(&checked, printer);
    if let Some(row) = checked.iter().find(|row| row.verdict == Agreement::Undefined) {
        let cause = row.cause.as_deref().unwrap_or("the loss or its gradient is infinite");
        bail!(
            "no gradient of `{}` can be told for random samples: {cause}; bring the inputs to a range that the model takes, or train a new \
             head alone (--train head --classes N)",
            row.parameter
        );
    }
    if let Some(wrong) = checked.iter().find(|row| row.verdict == Agreement::Differs) {
        let remedy = match agreeing(&base, output, &checked)? {
            0 => "train a new head alone (--train head --classes N)".to_string(),
            count => format!("train only the layers above it, --train last:{count}"),
        };
        bail!("the gradient of `{}` is not how the loss moves; {remedy}, and report the model", wrong.parameter);
    }
    Ok(Done::Fully)
}

/// A line a parameter, or a document of them.
fn tell(checked: &[Checked], printer: &Printer) {
    let word = |verdict| match verdict {
        Agreement::Agrees => "agrees",
        Agreement::Estimates => "estimates",
        Agreement::Flat => "flat",
        Agreement::Differs => "DIFFERS",
        Agreement::Undefined => "UNDEFINED",
    };
    let rows: Vec<_> = checked
        .iter()
        .map(|row| json!({ "parameter": row.parameter, "gradient": row.gradient, "numeric": row.numeric, "verdict": word(row.verdict) }))
        .collect();
    printer.document(&rows);
    printer.text(format!("{:<10} {:>14} {:>14}  parameter", "verdict", "gradient", "numeric"));
    for row in checked {
        printer.text(format!(
            "{:<10} {:>14.6e} {:>14.6e}  {}",
            word(row.verdict),
            row.gradient,
            row.numeric,
            row.parameter
        ));
    }
}

/// The loss that the output calls for, as a training without labels would have it.
fn guessed(base: &Base, output: Option<&str>, printer: &Printer) -> Result<Loss> {
    let (name, why) = learn::loss_of(base, output)?;
    if let Some(why) = why {
        printer.note(format!("loss      {}: {why}; --loss says it otherwise", name.name()));
    }
    Ok(recipe::loss(Some(name), None))
}

/// The number of layers above the topmost one whose gradient differs.
fn agreeing(base: &Base, output: Option<&str>, checked: &[Checked]) -> Result<usize> {
    let layers = cut::layers(&base.graph, adapter::output(&base.graph, output)?);
    let differs = |name: &str| checked.iter().any(|row| row.parameter == name && row.verdict == Agreement::Differs);
    let right = |layer: &&cut::Layer| !layer.weights.iter().any(|id| differs(base.graph.value_name(*id)));
    let count = layers.iter().rev().take_while(right).count();
    // A head of the check's own is no layer of the base: if it differs, nothing below is sure.
    Ok(if count == layers.len() { 0 } else { count })
}
