//! What has a row of scores: a sample, each of its tokens, or each of its pixels; and which output has such rows.

use super::Error;
use crate::graph::{Graph, Node, ValueId};

/// What a row of scores is of, and so where in an output the scores lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Positions {
    /// A sample: `[batch, scores]`.
    #[default]
    Sample,
    /// A token of a sample: `[batch, sequence, scores]`.
    Token,
    /// A pixel of a sample: `[batch, scores, height, width]`.
    Pixel,
    /// A cell of a detector, with the edges of its box behind its scores: `[batch, cells, scores + edges]`.
    Cell,
}

impl Positions {
    /// Dimensions of an output.
    pub fn rank(self) -> usize {
        match self {
            Positions::Sample => 2,
            Positions::Token | Positions::Cell => 3,
            Positions::Pixel => 4,
        }
    }

    /// The dimension of the scores.
    pub fn axis(self) -> usize {
        if matches!(self, Positions::Token | Positions::Cell) { 2 } else { 1 }
    }
}

/// Columns of the output, where it has a row for each of what is classified.
pub(super) fn own_width(graph: &Graph, output: ValueId, positions: Positions) -> Option<u64> {
    let shape = graph.ty(output)?.shape.as_deref()?;
    if shape.len() == positions.rank() { shape[positions.axis()].fixed() } else { None }
}

/// The output that was asked for, or the one that looks most like a result: a float of the rank that the scores need, one whose
/// name says logits, the first.
pub(super) fn choose_output(graph: &Graph, name: Option<&str>, positions: Positions) -> Result<ValueId, Error> {
    let found = named_or_likely(graph, name, positions)?;
    Ok(if positions == Positions::Pixel { channels_first(graph, found) } else { found })
}

/// What an output is made of whose channels are moved to the end, as a model of TensorFlow has them: `[batch, scores, height, width]`.
fn channels_first(graph: &Graph, output: ValueId) -> ValueId {
    let mut value = output;
    while let Some(node) = producer(graph, value) {
        match node.op.as_str() {
            "Transpose" if node.ints("perm") == Some(&[0, 2, 3, 1]) => return node.inputs[0].unwrap_or(output),
            "Identity" | "Softmax" | "LogSoftmax" | "Sigmoid" => value = node.inputs[0].unwrap_or(output),
            _ => break,
        }
    }
    output
}

fn named_or_likely(graph: &Graph, name: Option<&str>, positions: Positions) -> Result<ValueId, Error> {
    let known = || graph.outputs.iter().map(|id| graph.value_name(*id)).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let wanted = graph.outputs.iter().copied().find(|id| graph.value_name(*id) == name);
        // A head may read any value, such as the features of a network's neck.
        let inner = || {
            let computed =
                |id: &ValueId| producer(graph, *id).is_some() && graph.ty(*id).is_some_and(|ty| ty.dtype.is_float());
            graph.find(name).filter(computed)
        };
        return wanted.or_else(inner).ok_or_else(|| Error::Output { name: name.into(), known: known() });
    }
    let score = |id: &ValueId| {
        let float = graph.ty(*id).is_some_and(|ty| ty.dtype.is_float());
        let fits = graph.ty(*id).and_then(|ty| ty.rank()) == Some(positions.rank());
        let named = graph.value_name(*id).to_lowercase().contains("logits");
        // Scores of a position each lie in an output of that rank, whatever it is called.
        (float, fits && positions != Positions::Sample, named, fits)
    };
    // The first of the best: `max_by_key` would take the last.
    let best = graph.outputs.iter().rev().copied().max_by_key(|id| score(id));
    best.ok_or_else(|| Error::Output { name: "(default)".into(), known: known() })
}

fn producer(graph: &Graph, value: ValueId) -> Option<&Node> {
    graph.nodes.iter().find(|node| node.writes().any(|id| id == value))
}
