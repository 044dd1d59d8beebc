//! The layer that makes the scores, where something stands between it and the output: what it reads, and what of it learns.

use super::ending::{logits, producer};
use crate::cut;
use crate::graph::{Graph, ValueId};

/// The layer that makes the scores, where only activations, scales and the like stand between it and `output`: its node.
fn last_layer(graph: &Graph, output: ValueId) -> Option<usize> {
    const BETWEEN: [&str; 21] = [
        "Add",
        "Atan",
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Div",
        "Flatten",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "Mul",
        "Neg",
        "QuantizeLinear",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Softplus",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
    ];
    const LAYERS: [&str; 5] = ["Conv", "Gemm", "MatMul", "MatMulInteger", "MatMulNBits"];
    let producers = graph.producers();
    // A weight may be computed from others, as one of a cosine head, whose rows are brought to length 1.
    let computed = graph.descendants(graph.inputs.iter().copied());
    let constant = |id: ValueId| !computed.contains(&id);
    let mut value = output;
    loop {
        let index = *producers.get(&value)?;
        let node = &graph.nodes[index];
        if LAYERS.contains(&node.op.as_str()) {
            return node.inputs.get(1).copied().flatten().filter(|id| constant(*id)).map(|_| index);
        }
        if !BETWEEN.contains(&node.op.as_str()) {
            return None;
        }
        value = node.reads().find(|id| !constant(*id))?;
    }
}

/// What that layer reads: the features that scores of other classes are made from. A head on the old scores would know less.
pub(super) fn below(graph: &Graph, output: ValueId) -> Option<ValueId> {
    let node = &graph.nodes[last_layer(graph, output)?];
    if node.op == "MatMulInteger" {
        // Its input is quantised just before.
        let quantised = producer(graph, node.inputs[0]?)?;
        return (quantised.op == "DynamicQuantizeLinear").then_some(quantised.inputs[0]).flatten();
    }
    node.inputs[0]
}

/// The weights of that layer, which learn where the answer is kept: not the scale that turns its scores into units.
pub(super) fn weights_below(graph: &Graph, output: ValueId) -> Vec<ValueId> {
    let Some(node) = last_layer(graph, output) else { return Vec::new() };
    let made_for = graph.ancestors(graph.nodes[node].inputs.get(1).copied().flatten());
    let makes =
        |layer: &cut::Layer| layer.node == node || graph.nodes[layer.node].writes().any(|id| made_for.contains(&id));
    cut::uses(graph, output).into_iter().filter(makes).flat_map(|layer| layer.weights).collect()
}

/// Where a head was appended to what the layer of the old scores reads: those scores, in whose place the new ones are. What is an
/// output itself is somebody's, as are the scores beside it.
pub(super) fn old_scores(graph: &Graph, value: ValueId) -> Option<ValueId> {
    if graph.outputs.contains(&value) {
        return None;
    }
    let scores = graph.outputs.iter().map(|output| logits(graph, *output, None));
    scores.filter(|scores| *scores != value).find(|scores| below(graph, *scores) == Some(value))
}

/// Whether the last layer that multiplies does so with its weight as it is quantised.
pub(super) fn is_packed_below(graph: &Graph, output: ValueId) -> bool {
    let multiplies = |layer: &&cut::Layer| {
        let is_matrix = |id: &ValueId| cut::weight_type(graph, *id).is_some_and(|(_, shape)| shape.len() > 1);
        layer.packed.is_some() || layer.weights.iter().any(is_matrix)
    };
    cut::layers(graph, output).iter().rev().find(multiplies).is_some_and(|layer| layer.packed.is_some())
}
