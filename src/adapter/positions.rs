//! What has a row of scores: a sample, each of its tokens, or each of its pixels.

use crate::graph::{Graph, ValueId};

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
