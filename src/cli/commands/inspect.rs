//! `edgetune inspect`: what a model is made of, and how much of it can learn.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::{Printer, bytes};
use crate::cut;
use crate::engine;
use crate::grad;
use crate::graph::Graph;
use crate::train::prepare::{Base, hex};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Show a model's inputs, outputs and layers, and how far down a gradient reaches
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune inspect model.onnx")]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Show all layers instead of the last twelve
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Layer {
    /// `--train last:N` with this N includes the layer.
    last: usize,
    node: String,
    op: String,
    output: String,
    parameters: u64,
    trainable: bool,
    /// The first node above it that no gradient passes.
    blocked_by: Option<String>,
}

#[derive(Debug, Serialize)]
struct Inspection {
    hash: String,
    opset: i64,
    nodes: usize,
    weights_bytes: u64,
    inputs: Vec<String>,
    outputs: Vec<String>,
    layers: Vec<Layer>,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let found = inspect(&base);
    printer.document(&found);
    printer.text(format!("base      {}…", &hex(&base.hash)[..16]));
    printer.text(format!(
        "graph     {} nodes, opset {}, weights {}",
        found.nodes,
        found.opset,
        bytes(found.weights_bytes)
    ));
    found.inputs.iter().for_each(|input| printer.text(format!("input     {input}")));
    found.outputs.iter().for_each(|output| printer.text(format!("output    {output}")));
    let shown = if args.all { found.layers.len() } else { found.layers.len().min(12) };
    printer.text(format!("\n{:>6}  {:<22} {:>10}  {:<8} {}", "last:N", "operator", "values", "learns", "node"));
    for layer in found.layers.iter().rev().take(shown) {
        let learns = if layer.trainable { "yes" } else { "no" };
        let (last, op, values, node) = (layer.last, &layer.op, layer.parameters, &layer.node);
        printer.text(format!("{last:>6}  {op:<22} {values:>10}  {learns:<8} {node}"));
    }
    if shown < found.layers.len() {
        printer.text(format!("        … {} more (--all)", found.layers.len() - shown));
    }
    let deepest = found.layers.iter().filter(|layer| layer.trainable).map(|layer| layer.last).max();
    match (deepest, found.layers.iter().rev().find(|layer| !layer.trainable)) {
        (None, _) => printer.text("no layer can learn"),
        (Some(deepest), None) => printer.text(format!("every layer can learn: --train last:1 to last:{deepest}")),
        (Some(deepest), Some(layer)) => printer.text(format!(
            "deepest cut: --train last:{deepest}; below it, {}",
            layer.blocked_by.as_deref().unwrap_or("no gradient arrives")
        )),
    }
    Ok(Done::Fully)
}

/// Layers from the bottom to the top; a layer can learn if a gradient passes every node between it and the output.
fn inspect(base: &Base) -> Inspection {
    let graph = &base.graph;
    let output = graph.outputs[0];
    let layers = cut::layers(graph, output);
    let count = layers.len();
    let describe = |id| {
        let ty = graph.ty(id).map_or("type unknown".into(), ToString::to_string);
        format!("{} {ty}", graph.value_name(id))
    };
    let needed = graph.ancestors([output]);
    let listed = layers.iter().enumerate().map(|(index, layer)| {
        let node = &graph.nodes[layer.node];
        let above = graph.descendants(layer.weights.iter().copied());
        let blocked_by = graph.nodes.iter().find_map(|node| {
            let between = node.writes().any(|id| needed.contains(&id) && above.contains(&id));
            if between { grad::blocked(graph, node).map(|error| error.to_string()) } else { None }
        });
        Layer {
            last: count - index,
            node: node.name.clone(),
            op: node.op.clone(),
            output: node.writes().next().map_or(String::new(), describe),
            parameters: layer.weights.iter().map(|id| graph.initializers[id].len() as u64).sum(),
            trainable: blocked_by.is_none(),
            blocked_by,
        }
    });
    Inspection {
        hash: hex(&base.hash),
        opset: graph.opset,
        nodes: graph.nodes.len(),
        weights_bytes: weights_bytes(graph),
        inputs: graph.inputs.iter().map(|id| describe(*id)).collect(),
        outputs: graph.outputs.iter().map(|id| describe(*id)).collect(),
        layers: listed.collect(),
    }
}

fn weights_bytes(graph: &Graph) -> u64 {
    graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum()
}
