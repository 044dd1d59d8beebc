//! What a model is made of, how far down a gradient reaches, and what each cut would hand over.

use crate::adapter;
use crate::cut;
use crate::grad;
use crate::graph::{Graph, ValueId};
use crate::train::prepare::{Base, hex};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// What `inspect --json` prints.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The base's hash, which deltas are bound to.
    pub hash: String,
    /// Version of the `ai.onnx` operator set.
    pub opset: i64,
    /// Number of nodes.
    pub nodes: usize,
    /// Bytes of all weights.
    pub weights_bytes: u64,
    /// Bytes of weights by what they are stored as: a quantiser may have left floats without a word.
    pub weights_stored: BTreeMap<String, u64>,
    /// Name and type of each input.
    pub inputs: Vec<String>,
    /// The batch that the file fixes; null where it is open.
    pub batch_in_file: Option<u64>,
    /// Why no other number of samples is taken; null where any is.
    pub batch_fixed_by: Option<String>,
    /// Name and type of each output.
    pub outputs: Vec<String>,
    /// The value that `train` computes the loss on.
    pub trains_on: String,
    /// The largest N for which `--train last:N` has a gradient; 0 if there is none.
    pub deepest: usize,
    /// Every node that refuses a gradient on its way to the layers, from the output down.
    pub blocking: Vec<Blocking>,
    /// The size that `--time` gave to dimensions which the model leaves open, such as a text's length; null where there are
    /// none, or nothing was timed.
    pub open_size: Option<u64>,
    /// Tensors that several modules share.
    pub united: Vec<United>,
    /// Layers with weights, from the bottom to the top.
    pub layers: Vec<Layer>,
}

/// A tensor that layers of several modules read.
#[derive(Debug, Serialize)]
pub struct United {
    /// Its name.
    pub tensor: String,
    /// The modules' paths.
    pub modules: Vec<String>,
}

/// A node without a gradient.
#[derive(Debug, Serialize)]
pub struct Blocking {
    /// Its name.
    pub node: String,
    /// Its operator, with the domain unless it is `ai.onnx`.
    pub op: String,
    /// The version of its operator set.
    pub opset: i64,
    /// What to do instead.
    pub remedy: String,
    /// All of that as a sentence.
    #[serde(skip)]
    pub reason: String,
}

impl Blocking {
    /// `None` for what is no node's fault.
    fn new(error: grad::Error) -> Option<Self> {
        let reason = error.to_string();
        match error {
            grad::Error::Refused { node, op, opset, remedy } => Some(Self { node, op, opset, remedy, reason }),
            grad::Error::Rule { .. } | grad::Error::Unreached { .. } => None,
        }
    }
}

/// A layer that holds weights.
#[derive(Debug, Serialize)]
pub struct Layer {
    /// `--train last:N` with this N includes the layer.
    pub last: usize,
    /// The path of the module that it is, as `--train`, `--targets` and PEFT name it.
    pub module: String,
    /// Its node.
    pub node: String,
    /// The node's operator.
    pub op: String,
    /// Name and type of what it gives.
    pub output: String,
    /// The type alone.
    #[serde(skip)]
    pub output_type: String,
    /// Learnable values in it.
    pub parameters: u64,
    /// Whether a gradient reaches something that can learn.
    pub trainable: bool,
    /// Whether it multiplies with a weight as that is quantised: factors beside it can learn (`--adapter lora`), it cannot.
    pub packed: bool,
    /// What stands in the gradient's way, with the remedy.
    pub blocked_by: Option<String>,
    /// What `--train last:N` would hand from the body to the tail; null where the model cannot be cut there, or where
    /// it was not asked for.
    pub cut: Option<Vec<String>>,
    /// Bytes of that for one sample; null where a size is open.
    pub feature_bytes: Option<u64>,
    /// Estimated private memory of training from here to the top; null where the layer cannot learn or a size is open.
    pub memory_bytes: Option<u64>,
    /// Measured milliseconds of one step of that; null where it was not asked for.
    pub step_ms: Option<f64>,
    /// Why a step could not be timed; null where it was, or was not asked for.
    pub time_problem: Option<String>,
}

/// Looks at all layers; the cuts, which take longer, only of the last `cuts` ones.
///
/// # Errors
/// An output that the model does not have.
pub fn inspect(base: &Base, output: Option<&str>, cuts: usize) -> Result<Inspection> {
    let graph = &base.graph;
    let output = adapter::output(graph, output)?;
    let layers = cut::layers(graph, output);
    let count = layers.len();
    let mut weights: Vec<ValueId> = Vec::new();
    let mut found = Vec::with_capacity(count);
    for ((index, layer), module) in layers.iter().enumerate().zip(cut::modules(graph, &layers)).rev() {
        weights.extend(&layer.weights);
        let last = count - index;
        let node = &graph.nodes[layer.node];
        let multiplies = layer.packed.map_or(node, |packed| &graph.nodes[packed.node]);
        // Where nothing of the layer can learn, what stands beside it needs the gradient of its output.
        let reached: Vec<ValueId> =
            if layer.weights.is_empty() { node.writes().take(1).collect() } else { layer.weights.clone() };
        let blocked_by = grad::obstacle(graph, output, &reached).map(|error| error.to_string());
        let (cut, feature_bytes) = if last <= cuts { cut_at(graph, &weights, output) } else { (None, None) };
        found.push(Layer {
            last,
            module,
            node: multiplies.name.clone(),
            op: multiplies.op.clone(),
            output: node.writes().next().map_or(String::new(), |id| describe(graph, id)),
            output_type: node.writes().next().map_or(String::new(), |id| type_of(graph, id)),
            parameters: layer
                .weights
                .iter()
                .map(|id| cut::weight_type(graph, *id).map_or(0, |(_, shape)| shape.iter().product()))
                .sum(),
            trainable: blocked_by.is_none() && !layer.weights.is_empty(),
            packed: layer.packed.is_some(),
            blocked_by,
            cut,
            feature_bytes,
            memory_bytes: None,
            step_ms: None,
            time_problem: None,
        });
    }
    let deepest = found.iter().take_while(|layer| layer.blocked_by.is_none()).count();
    found.reverse();
    let blocking = grad::obstacles(graph, output, &weights).into_iter().filter_map(Blocking::new).collect();
    Ok(Inspection {
        hash: hex(&base.hash),
        opset: graph.opset,
        nodes: graph.nodes.len(),
        weights_stored: stored(graph),
        weights_bytes: graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum(),
        inputs: graph.inputs.iter().map(|id| describe(graph, *id)).collect(),
        batch_in_file: base.baked,
        batch_fixed_by: base.stuck.as_ref().map(ToString::to_string),
        outputs: graph.outputs.iter().map(|id| describe(graph, *id)).collect(),
        trains_on: describe(graph, output),
        deepest,
        blocking,
        open_size: None,
        united: united(graph, output),
        layers: found,
    })
}

/// Bytes of weights by element type.
fn stored(graph: &Graph) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for tensor in graph.initializers.values() {
        *found.entry(tensor.dtype.to_string()).or_default() += tensor.data.len() as u64;
    }
    found
}

/// Tensors that several modules share.
fn united(graph: &Graph, output: ValueId) -> Vec<United> {
    let named = |(id, modules)| United { tensor: graph.value_name(id).into(), modules };
    cut::united(graph, output).into_iter().map(named).collect()
}

/// What crosses a cut below these weights, and its size for one sample.
fn cut_at(graph: &Graph, weights: &[ValueId], output: ValueId) -> (Option<Vec<String>>, Option<u64>) {
    let Ok(cut) = cut::split(graph, weights, output) else { return (None, None) };
    let ids: Vec<ValueId> = cut.features.iter().filter_map(|name| graph.find(name)).collect();
    let sizes: Option<Vec<u64>> = ids.iter().map(|id| sample_bytes(graph, *id)).collect();
    (Some(ids.iter().map(|id| describe(graph, *id)).collect()), sizes.map(|sizes| sizes.iter().sum()))
}

/// Bytes of a value without its first dimension, the batch.
fn sample_bytes(graph: &Graph, id: ValueId) -> Option<u64> {
    let ty = graph.ty(id)?;
    let sizes: Option<Vec<u64>> = ty.shape.as_ref()?.iter().skip(1).map(|dim| dim.fixed()).collect();
    Some(sizes?.iter().product::<u64>() * ty.dtype.bits() as u64 / 8)
}

fn describe(graph: &Graph, id: ValueId) -> String {
    format!("{} {}", graph.value_name(id), type_of(graph, id))
}

fn type_of(graph: &Graph, id: ValueId) -> String {
    graph.ty(id).map_or("type unknown".into(), ToString::to_string)
}
