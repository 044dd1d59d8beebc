//! Which values of a node were learned, and which are settings: positions, masks, angles, ranges of inputs, what a decomposition wrote.

use super::stored::{gives_weight, weight_floats, weight_type};
use crate::graph::{Graph, Node, Tensor, ValueId};
use std::collections::{HashMap, HashSet};

/// The model's inputs, and what is moved, scaled and shifted of them by constants.
pub(super) fn raw(graph: &Graph) -> HashSet<ValueId> {
    let mut raw: HashSet<ValueId> = graph.inputs.iter().copied().collect();
    for node in graph.nodes.iter().filter(|node| node.domain.is_empty()) {
        let views = ["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];
        let keeps = views.contains(&node.op.as_str()) || ELEMENTWISE.contains(&node.op.as_str());
        let constant = |id: ValueId| graph.initializers.contains_key(&id);
        if keeps && node.reads().any(|id| raw.contains(&id)) && node.reads().all(|id| raw.contains(&id) || constant(id))
        {
            raw.extend(node.writes());
        }
    }
    raw
}

/// Whether a node gives settings of the model: angles to `RotaryEmbedding` alone, or the zeros that a recurrent layer starts from.
pub(super) fn sets(graph: &Graph, node: &Node) -> bool {
    let given: Vec<ValueId> = node.writes().collect();
    let read_by = |operators: &[&str]| {
        let mut readers = graph.nodes.iter().filter(|reader| reader.reads().any(|id| given.contains(&id))).peekable();
        readers.peek().is_some() && readers.all(|reader| operators.contains(&reader.op.as_str()))
    };
    let is_zeros = |id: ValueId| {
        let values = weight_floats(graph, id).and_then(|tensor| tensor.to_f32());
        values.is_some_and(|values| values.iter().all(|value| *value == 0.0))
    };
    let zeros = || node.reads().filter(|id| weight_type(graph, *id).is_some()).all(is_zeros);
    read_by(&["RotaryEmbedding"]) || (read_by(&["GRU", "LSTM", "RNN"]) && zeros())
}

/// Operators that combine a weight with each element; beside layers they serve as scale and bias, and much else.
pub(super) const ELEMENTWISE: [&str; 4] = ["Add", "Mul", "Sub", "Div"];

/// A lone number, such as the one that a mask is filled with.
pub(super) fn is_number(graph: &Graph, id: ValueId) -> bool {
    weight_type(graph, id).is_some_and(|(_, shape)| shape.iter().product::<u64>() == 1)
}

/// Whether a product is of a constant and whole numbers, such as positions: the frequencies of rotary embeddings, which nobody learned.
pub(super) fn of_positions(graph: &Graph, producers: &HashMap<ValueId, usize>, node: &Node) -> bool {
    let is_whole = |id: ValueId| graph.ty(id).is_some_and(|ty| !ty.dtype.is_float());
    let counted = |mut id: ValueId| {
        for _ in 0..POSITION_STEPS_MAX {
            let Some(node) = producers.get(&id).map(|index| &graph.nodes[*index]) else { return false };
            let Some(read) = node.inputs.first().copied().flatten() else { return false };
            match node.op.as_str() {
                "Cast" if is_whole(read) => return true,
                "Cast" | "Unsqueeze" | "Squeeze" | "Reshape" | "Expand" | "Transpose" | "Identity" => id = read,
                _ => return false,
            }
        }
        false
    };
    ["Mul", "MatMul"].contains(&node.op.as_str()) && node.inputs.iter().flatten().any(|id| counted(*id))
}

/// Views between positions and their product with frequencies, at most.
const POSITION_STEPS_MAX: usize = 8;

/// Whether a `MatMul` has a weight of one column.
pub(super) fn gives_one(graph: &Graph, node: &Node) -> bool {
    let weight = node.inputs.get(1).copied().flatten().and_then(|id| weight_type(graph, id));
    node.op == "MatMul" && weight.is_some_and(|(_, shape)| shape.last() == Some(&1))
}

/// A grid of positions or a mask, as detectors add to what they decode: nobody learned that.
pub(super) fn whole_numbers(graph: &Graph, id: ValueId) -> bool {
    weight_floats(graph, id)
        .and_then(|tensor| tensor.to_f32())
        .is_some_and(|values| values.iter().all(|value| value.fract() == 0.0))
}

/// A table of cosines or sines by position, as rotary embeddings become where the file fixes the sequence: beside it there is another
/// whose squares add up with its own to the same everywhere.
pub(super) fn is_angles(graph: &Graph, id: ValueId) -> bool {
    let Some(own) = weight_floats(graph, id) else { return false };
    let Some(values) = own.to_f32() else { return false };
    let others = graph.initializers.iter().filter(|(other, tensor)| **other != id && tensor.shape == own.shape);
    others.filter_map(|(_, tensor)| tensor.to_f32()).any(|other| {
        let mut sums = values.iter().zip(&other).map(|(a, b)| a * a + b * b);
        let first = sums.next().unwrap_or(0.0);
        first > 0.0 && sums.all(|sum| (sum - first).abs() < 1e-3 * first)
    })
}

/// A bias: one dimension that is not 1.
pub fn is_vector(graph: &Graph, id: ValueId) -> bool {
    weight_type(graph, id).is_some_and(|(_, shape)| shape.iter().filter(|size| **size > 1).count() <= 1)
}

/// Whether a product scales each channel of a convolution of several groups that has no bias: tf2onnx folds a BatchNormalization into
/// other convolutions, and leaves it as `Mul` and `Add` behind these.
pub(super) fn scales_groups(graph: &Graph, layer: &Node, node: &Node, weight: ValueId) -> bool {
    let bare = layer.op == "Conv" && layer.int("group", 1) > 1 && layer.inputs.get(2).copied().flatten().is_none();
    bare && node.op == "Mul" && is_vector(graph, weight)
}

/// What is added to a layer as its bias: a vector, or for an `Einsum`, whose output may have several axes of features, a tensor.
pub(super) fn is_bias(graph: &Graph, layer: &Node, id: ValueId) -> bool {
    is_vector(graph, id) || layer.op == "Einsum"
}

/// Whether a normalisation's scale is ones and its shift zeros, under names that no module has: an exporter that takes a
/// normalisation apart puts them there, and the scale that was learned is multiplied behind it. Nobody learned these.
pub(super) fn is_bare(graph: &Graph, node: &Node) -> bool {
    let all = |place: usize, wanted: f32| {
        node.inputs.get(place).copied().flatten().is_none_or(|id| {
            let named = ["weight", "bias", "gamma", "beta"].iter().any(|end| graph.value_name(id).ends_with(end));
            let values = graph.initializers.get(&id).filter(|_| !named).and_then(Tensor::to_f32);
            values.is_some_and(|values| values.iter().all(|value| *value == wanted))
        })
    };
    let takes_scale = ["GroupNormalization", "InstanceNormalization", "LayerNormalization"].contains(&node.op.as_str());
    takes_scale && all(1, 1.0) && all(2, 0.0)
}

/// The initializers that a node learns with: floats in a weight's place.
pub(super) fn learnable(graph: &Graph, producers: &HashMap<ValueId, usize>, node: &Node) -> Vec<ValueId> {
    let places: &[usize] = match node.op.as_str() {
        "Gemm"
        | "Conv"
        | "ConvTranspose"
        | "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "BatchNormalization"
        | "RMSNormalization"
        | "Attention" => &[1, 2],
        "MatMul" | "FusedMatMul" | "Add" | "Mul" | "Sub" | "Div" => &[0, 1],
        "PRelu" | "SimplifiedLayerNormalization" | "BiasGelu" | "FastGelu" => &[1],
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => &[2, 3, 4],
        "Einsum" => &[0, 1, 2, 3],
        "MultiHeadAttention" => &[3],
        "EmbedLayerNormalization" => &[2, 3, 4, 5, 6],
        // A class token is expanded to the batch.
        "Gather" | "Expand" => &[0],
        "LSTM" | "GRU" | "RNN" => &[1, 2, 3],
        "DynamicQuantizeLSTM" => &[3],
        _ => &[],
    };
    // The factor of a scale that is computed from the values is a scale, too.
    let scale = |id: &ValueId| {
        producers.get(id).map(|index| &graph.nodes[*index]).is_some_and(|node| node.op == "DynamicQuantizeLinear")
    };
    if (node.op == "Mul" && node.inputs.iter().flatten().any(scale)) || is_bare(graph, node) {
        return Vec::new();
    }
    places
        .iter()
        .filter_map(|place| node.inputs.get(*place).copied().flatten())
        .filter_map(|id| constant_source(graph, producers, id))
        .filter(|id| !graph.settings.contains(id))
        .filter(|id| weight_type(graph, *id).is_some_and(|(dtype, _)| dtype.is_float()))
        .collect()
}

/// The weight behind a value, through nodes that only view or convert it: an initializer, or what a `DequantizeLinear`
/// makes of constants.
pub fn constant_source(graph: &Graph, producers: &HashMap<ValueId, usize>, mut id: ValueId) -> Option<ValueId> {
    while !graph.initializers.contains_key(&id) {
        let node = &graph.nodes[*producers.get(&id)?];
        if gives_weight(graph, node) {
            return Some(id);
        }
        if !matches!(node.op.as_str(), "Cast" | "Identity" | "Transpose" | "Reshape" | "Unsqueeze" | "Squeeze") {
            return None;
        }
        id = node.inputs.first().copied().flatten()?;
    }
    Some(id)
}
