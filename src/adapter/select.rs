//! Methods that learn tensors which the base has: the biases (BitFit), the normalisations.

use crate::cut;
use crate::graph::{Graph, Node, ValueId};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The biases of layers: third inputs of linear layers, convolutions and normalisations, fourth ones of recurrent layers, and
/// vectors that are added.
pub fn biases(graph: &Graph, output: ValueId, last: Option<usize>) -> Vec<ValueId> {
    within(graph, output, last, |node, place| match node.op.as_str() {
        "Add" => true,
        _ if recurrent(node) => place == 3,
        _ => place == 2,
    })
}

/// Scales and shifts of normalisations, also of those that an exporter wrote in single steps: a vector that multiplies
/// what was divided by (or multiplied with the reciprocal of) a square root, or what a normalisation without weights of its
/// own made (a GroupNorm of before opset 21), and the vector added to that.
pub fn normalisations(graph: &Graph, output: ValueId, last: Option<usize>) -> Vec<ValueId> {
    let producers = graph.producers();
    let with_weights: HashSet<usize> = cut::uses(graph, output).iter().map(|layer| layer.node).collect();
    let mut normalised: HashSet<ValueId> = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let made = |id: &ValueId, ops: &[&str]| {
            producers
                .get(&through_casts(graph, &producers, *id))
                .is_some_and(|at| ops.contains(&graph.nodes[*at].op.as_str()))
        };
        let inputs: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let by_root = match node.op.as_str() {
            "Div" => inputs.get(1).is_some_and(|id| made(id, &["Sqrt"])),
            "Mul" => inputs.iter().any(|id| reciprocal_root(graph, &producers, *id)),
            op => op.ends_with("Normalization") && !with_weights.contains(&index),
        };
        let views = matches!(node.op.as_str(), "Cast" | "Reshape");
        let scaled = (views || matches!(node.op.as_str(), "Mul" | "Add"))
            && inputs.iter().any(|id| normalised.contains(id))
            && (views || inputs.iter().any(|id| vector(graph, &producers, *id)));
        if by_root || scaled {
            normalised.extend(node.writes());
        }
    }
    within(graph, output, last, |node, _| {
        node.op.ends_with("Normalization")
            || (matches!(node.op.as_str(), "Mul" | "Add") && node.writes().any(|id| normalised.contains(&id)))
    })
}

fn reciprocal_root(graph: &Graph, producers: &HashMap<ValueId, usize>, id: ValueId) -> bool {
    let Some(node) = producers.get(&through_casts(graph, producers, id)).map(|at| &graph.nodes[*at]) else {
        return false;
    };
    let root = |input: Option<ValueId>| {
        input.and_then(|id| producers.get(&id)).is_some_and(|at| graph.nodes[*at].op == "Sqrt")
    };
    match node.op.as_str() {
        "Reciprocal" => root(node.inputs[0]),
        "Div" => root(node.inputs.get(1).copied().flatten()),
        _ => false,
    }
}

fn through_casts(graph: &Graph, producers: &HashMap<ValueId, usize>, mut id: ValueId) -> ValueId {
    while let Some(node) = producers.get(&id).map(|at| &graph.nodes[*at])
        && node.op == "Cast"
        && let Some(Some(below)) = node.inputs.first()
    {
        id = *below;
    }
    id
}

/// Whether an initializer of one dimension that is not 1 is behind the value.
fn vector(graph: &Graph, producers: &HashMap<ValueId, usize>, id: ValueId) -> bool {
    cut::constant_source(graph, producers, id).is_some_and(|weight| cut::is_vector(graph, weight))
}

/// Whether the node is a recurrent layer, whose bias has a row for each direction.
pub fn recurrent(node: &Node) -> bool {
    ["LSTM", "GRU", "RNN"].contains(&node.op.as_str())
}

/// The vectors (and biases of recurrent layers) among the weights of the `last` layers (all without it) that are at a place of
/// a node that `wanted` takes, each once, in the graph's order.
fn within(graph: &Graph, output: ValueId, last: Option<usize>, wanted: impl Fn(&Node, usize) -> bool) -> Vec<ValueId> {
    let layers = cut::layers(graph, output);
    let first = last.map_or(0, |last| layers.len().saturating_sub(last));
    let weights: HashSet<ValueId> = layers[first..].iter().flat_map(|layer| layer.weights.iter().copied()).collect();
    let producers = graph.producers();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for node in &graph.nodes {
        for (place, id) in node.inputs.iter().enumerate() {
            let source = id.and_then(|id| cut::constant_source(graph, &producers, id));
            let shaped = |id: ValueId| cut::is_vector(graph, id) || recurrent(node);
            let Some(source) = source.filter(|id| weights.contains(id) && shaped(*id)) else { continue };
            if wanted(node, place) && seen.insert(source) {
                found.push(source);
            }
        }
    }
    found
}
