//! `edgetune inspect`: what a model is made of, and how much of it can learn.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::inspection::{Inspection, inspect};
use crate::cli::print::{Printer, bytes};
use crate::engine;
use crate::train::prepare::Base;
use anyhow::Result;
use std::path::PathBuf;

/// Show a model's inputs, outputs and layers, and how far down a gradient reaches
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune inspect model.onnx\n  edgetune inspect model.onnx --json | jq .deepest\n\n\
    --json prints {hash, opset, nodes, weights_bytes, inputs, outputs, trains_on, deepest, layers: [{last, node, op, \
    output, parameters, trainable, blocked_by, cut, feature_bytes}]}, layers from the bottom to the top; `cut` is what \
    --train last:N would hand from the frozen body to the tail, `feature_bytes` its size for one sample."
)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The output to train on [default: printed]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Show all layers instead of the last twelve
    #[arg(long)]
    all: bool,
}

/// Layers that are shown where not all are asked for.
const SHOWN: usize = 12;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let shown = if args.all || global.json { usize::MAX } else { SHOWN };
    let found = inspect(&base, args.output.as_deref(), shown)?;
    printer.document(&found);
    show(&found, shown, printer);
    Ok(Done::Fully)
}

fn show(found: &Inspection, shown: usize, printer: &Printer) {
    let weights = bytes(found.weights_bytes);
    printer.text(format!("base      {}…", &found.hash[..16]));
    printer.text(format!("graph     {} nodes, opset {}, weights {weights}", found.nodes, found.opset));
    found.inputs.iter().for_each(|input| printer.text(format!("input     {input}")));
    found.outputs.iter().for_each(|output| printer.text(format!("output    {output}")));
    printer.text(format!("trains on {}", found.trains_on));
    printer.text(format!(
        "\n{:>6}  {:<22} {:>10}  {:<6} {:>13}  node",
        "last:N", "operator", "values", "learns", "bytes/sample"
    ));
    for layer in found.layers.iter().rev().take(shown) {
        let learns = if layer.trainable { "yes" } else { "no" };
        let size = match (&layer.cut, layer.feature_bytes) {
            (None, _) => "no cut".into(),
            (Some(_), None) => "varies".into(),
            (Some(_), Some(size)) => bytes(size),
        };
        let (last, op, values, node) = (layer.last, &layer.op, layer.parameters, &layer.node);
        printer.text(format!("{last:>6}  {op:<22} {values:>10}  {learns:<6} {size:>13}  {node}"));
    }
    if let Some(more) = found.layers.len().checked_sub(shown).filter(|more| *more > 0) {
        printer.text(format!("        … {more} more (--all)"));
    }
    let (deepest, below) = (found.deepest, found.layers.iter().rev().nth(found.deepest));
    printer.text(match below.and_then(|layer| layer.blocked_by.as_deref()) {
        _ if found.layers.is_empty() => "no layer holds weights: nothing can learn but an appended head".into(),
        None => format!("every layer can learn: --train last:1 to last:{deepest}"),
        Some(reason) if deepest == 0 => format!("no layer can learn: {reason}"),
        Some(reason) => format!("deepest cut: --train last:{deepest}; below it, {reason}"),
    });
}
