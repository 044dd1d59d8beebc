//! What stands between the scores and a model's output: activations, roundings, views of a column.

use crate::graph::{Dim, Graph, Node, ValueId};

/// The activation that a loss applies to a model's output by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Cross-entropy's: scores become shares that sum to one.
    Softmax,
    /// Binary cross-entropy's: each score becomes a share of its own.
    Sigmoid,
    /// None: values are compared as the model gives them.
    Identity,
}

impl Activation {
    /// The operator.
    pub(super) fn op(self) -> &'static str {
        match self {
            Activation::Softmax => "Softmax",
            Activation::Sigmoid => "Sigmoid",
            Activation::Identity => "Identity",
        }
    }

    /// Whether the loss takes the place of an operator at the model's end.
    pub(super) fn stands_for(self, op: &str) -> bool {
        op == self.op() || (self == Activation::Softmax && op == "LogSoftmax")
    }
}

/// The value before a final activation or quantisation: losses are computed on logits, and what is quantised to the range
/// of the old ones would clip new ones. An activation that the loss does not apply by itself is a part of the model and stays;
/// without a loss any is taken off.
pub(super) fn logits(graph: &Graph, output: ValueId, activation: Option<Activation>) -> ValueId {
    let taken_off = |op: &str| match activation {
        Some(activation) => activation.stands_for(op),
        None => is_activation(op),
    };
    match producer(graph, output) {
        Some(node) if node.op == "Identity" || quantises(node) || taken_off(&node.op) || is_squeezed(graph, node) => {
            logits(graph, node.inputs[0].expect("a unary operator has an input"), activation)
        }
        _ => output,
    }
}

/// Whether a node makes a plain list of one column, `[batch, 1]` → `[batch]`, as `squeeze(-1)` does: the column has what is learned.
pub(super) fn is_squeezed(graph: &Graph, node: &Node) -> bool {
    let shape = |id: Option<ValueId>| graph.ty(id?)?.shape.as_deref();
    let (from, to) = (shape(node.inputs.first().copied().flatten()), shape(node.outputs.first().copied().flatten()));
    let views = ["Squeeze", "Reshape", "Gather"].contains(&node.op.as_str());
    views && matches!((from, to), (Some([_, Dim::Fixed(1)]), Some([_])))
}

/// Whether an operator at a model's end is one that some loss applies by itself.
pub(super) fn is_activation(op: &str) -> bool {
    matches!(op, "Softmax" | "LogSoftmax" | "Sigmoid")
}

pub(super) fn producer(graph: &Graph, value: ValueId) -> Option<&Node> {
    graph.nodes.iter().find(|node| node.writes().any(|id| id == value))
}

pub(super) fn quantises(node: &Node) -> bool {
    matches!(node.op.as_str(), "QuantizeLinear" | "DequantizeLinear")
}
