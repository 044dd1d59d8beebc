//! A model that was exported in training mode, as it is in use: nothing in it is left to chance.

use crate::graph::{Graph, Node};

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
