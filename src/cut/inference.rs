//! A model as it is in use, whatever it was exported for: nothing in it is left to chance, and nothing was read before.

use crate::graph::{Dim, Graph, Node, ValueId};

/// Operators whose result is another in every run.
const RANDOM: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// Makes each Dropout the identity that it is in use: PyTorch's exporter leaves `training_mode` on where the model was not
/// in `eval()`.
pub fn dropouts_off(graph: &mut Graph) {
    for node in graph.nodes.iter_mut().filter(|node| node.op == "Dropout" && node.domain.is_empty()) {
        // Inputs are the data, the ratio and whether it trains; without the last it does not.
        node.inputs.truncate(2);
    }
}

/// The first node whose result is left to chance.
pub fn random(graph: &Graph) -> Option<&Node> {
    graph.nodes.iter().find(|node| node.domain.is_empty() && RANDOM.contains(&node.op.as_str()))
}

/// Attention as one node, where its inputs of past keys and values are, and what tells how many heads its first input holds: queries alone,
/// or, where the second input is missing, queries, keys and values side by side.
fn past_of(node: &Node) -> Option<(usize, i64)> {
    let (queries, keys) = (node.int("num_heads", 0), node.int("kv_num_heads", 0));
    let packed = node.inputs.get(1).copied().flatten().is_none();
    match (node.domain.as_str(), node.op.as_str()) {
        ("com.microsoft", "GroupQueryAttention") => Some((3, if packed { queries + 2 * keys } else { queries })),
        ("com.microsoft", "MultiHeadAttention") => Some((6, if packed { 3 * queries } else { queries })),
        ("", "Attention") => Some((4, node.int("q_num_heads", 0))),
        _ => None,
    }
}

/// The inputs of the model that some attention node takes as past keys or values and no other node reads, with that node and its heads.
fn pasts(graph: &Graph) -> Vec<(ValueId, usize, i64)> {
    let readers = graph.consumers();
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some((first, heads)) = past_of(node) else { continue };
        for id in node.inputs.iter().skip(first).take(2).flatten() {
            if graph.inputs.contains(id) && readers.get(id).is_some_and(|readers| readers.as_slice() == [index]) {
                found.push((*id, index, heads));
            }
        }
    }
    found
}

/// Leaves past keys and values out of attention nodes that take them from the model's inputs: what is learned from begins with its first
/// token, and a past that holds nothing is as good as none.
pub fn without_past(graph: &mut Graph) {
    for (past, node, _) in pasts(graph) {
        graph.inputs.retain(|id| *id != past);
        graph.nodes[node].inputs.iter_mut().filter(|input| **input == Some(past)).for_each(|input| *input = None);
    }
}

/// The head size of past keys and values where the file leaves it open, as onnxruntime-genai's model builder does: what one head has of the
/// attention node's first input. The graph must be typed.
pub fn size_pasts(graph: &mut Graph) {
    for (past, node, heads) in pasts(graph) {
        let dims = graph.nodes[node].inputs[0].and_then(|id| graph.ty(id)?.shape.as_deref());
        // [batch, positions, heads · size]; what is packed in more dimensions tells the size otherwise.
        let Some([_, _, width]) = dims else { continue };
        let width = width.fixed();
        let Some(size) = width.and_then(|width| width.checked_div(u64::try_from(heads).ok()?)) else { continue };
        let shape = graph.values[past.index()].ty.as_mut().and_then(|ty| ty.shape.as_deref_mut());
        if let Some([_, _, _, last @ (Dim::Named(_) | Dim::Unknown)]) = shape {
            *last = Dim::Fixed(size);
        }
    }
}
