//! `edgetune inspect`: what a model is made of, and how much of it can learn.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::inspection::inspect;
use crate::cli::print::Printer;
use crate::cli::summary;
use crate::engine;
use crate::train::prepare::Base;
use anyhow::Result;
use std::path::PathBuf;

/// Show a model's inputs, outputs and layers, and how far down a gradient reaches
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune inspect model.onnx\n  edgetune inspect model.onnx --json | jq .deepest\n\n\
    --json prints {hash, opset, nodes, weights_bytes, inputs, outputs, trains_on, deepest, blocking: [{node, \
    op, opset, remedy}], layers: [{last, node, op, output, parameters, trainable, blocked_by, cut, feature_bytes}]}. \
    `blocking` names every node without a gradient that is in the way to a layer, from the output down; layers go from \
    the bottom to the top; `cut` is what --train last:N would hand from the frozen body to the tail, `feature_bytes` its \
    size for one sample."
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
    summary::inspected(&found, shown, printer);
    Ok(Done::Fully)
}
