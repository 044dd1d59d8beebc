//! `edgetune inspect`: what a model is made of, and how much of it can learn.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::costs;
use crate::cli::inspection::inspect;
use crate::cli::print::Printer;
use crate::cli::summary;
use crate::engine;
use crate::host::private_bytes;
use crate::train::prepare::Base;
use anyhow::Result;
use std::path::PathBuf;
use std::time::Instant;

/// Show a model's inputs, outputs and layers, and how far down a gradient reaches
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune inspect model.onnx\n  edgetune inspect model.onnx --json | jq .deepest\n\n\
    --json prints {hash, opset, nodes, weights_bytes, weights_stored, inputs, batch_in_file, batch_fixed_by, outputs, trains_on, deepest, blocking: [{node, \
    op, opset, remedy}], united: [{tensor, modules}], layers: [{last, module, node, op, output, parameters, trainable, blocked_by, cut, feature_bytes, \
    memory_bytes, step_ms, time_problem}], open_size}. `weights_stored` has the bytes by element type, \
    so that floats which a quantiser left are seen; `united` names tensors that several modules share, or that the exporter united as they \
    were equal. `blocking` names every node without a gradient that is in the way to a layer, from the \
    output down; layers go from the bottom to the top; `module` is the layer's path in the program that the model was exported from, as --train, \
    --targets and PEFT name it; `batch_in_file` is the batch that the file fixes, `batch_fixed_by` why no other number of samples can \
    pass, null where any can; `cut` is what --train last:N would hand from the frozen body to \
    the tail, `feature_bytes` its size for one sample, `memory_bytes` an estimate of the private memory that training \
    it takes at --batch, `step_ms` what --time measures with random samples; `open_size` is the size that \
    it gave to dimensions which the model leaves open, such as a text's length."
)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The output to train on [default: the likeliest one, which is shown as `trains on`]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Dimension of the inputs that is the batch, counted from 0 [default: the one called batch or N, else the first]
    #[arg(long, value_name = "N")]
    batch_axis: Option<u32>,
    /// Show all layers instead of the last twelve
    #[arg(long)]
    all: bool,
    /// Samples in one run of the step graph, for memory and time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65536))]
    batch: u64,
    /// Time a step of each cut on this machine
    #[arg(long)]
    time: bool,
    #[command(flatten)]
    compute: Compute,
}

/// Layers that are shown where not all are asked for.
const SHOWN: usize = 12;

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || Base::read_with(&args.model, args.batch_axis))?;
    let shown = if args.all || global.json { usize::MAX } else { SHOWN };
    let mut found = inspect(&base, args.output.as_deref(), shown)?;
    let (began, bundles) = (Instant::now(), global.bundles()?);
    let run = costs::Run {
        output: args.output.as_deref(),
        batch: args.batch,
        bundles: args.time.then_some(bundles.as_path()),
        options: &args.compute.options(),
        clock: &|| began.elapsed().as_secs_f64(),
        process_bytes: private_bytes(),
    };
    let what = if args.time { "timing a step of each cut" } else { "estimating memory" };
    printer.during(what, || costs::fill(&mut found, &base, &run))?;
    printer.document(&found);
    summary::inspected(&found, shown, printer);
    Ok(Done::Fully)
}
