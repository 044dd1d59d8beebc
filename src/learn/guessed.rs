//! The loss that a model's output calls for where there are no data to ask.
//!
//! Takes a typed model and the name of its output; gives the loss and why. Never looks at samples: where there are some, they decide
//! (`settings::with_loss`).

use crate::adapter::{self, Positions};
use crate::data;
use crate::graph::{Dim, Graph, Tensor, ValueId};
use crate::recipe::LossName;
use crate::train::prepare::Base;

/// The loss of an output, and the words that tell why it is not cross-entropy.
///
/// # Errors
/// A model that has no such output.
pub fn loss_of(base: &Base, output: Option<&str>) -> Result<(LossName, Option<String>), adapter::Error> {
    let graph = &base.graph;
    let scores = adapter::output(graph, output)?;
    let dims = graph.ty(scores).and_then(|ty| ty.shape.clone()).unwrap_or_default();
    let name = graph.value_name(scores);
    let told = |loss, why: String| Ok((loss, Some(format!("output `{name}` {why}"))));
    match dims.as_slice() {
        [_, Dim::Fixed(1)] => told(LossName::BinaryCrossEntropy, "has one column".into()),
        [_, columns] => match same_as_input(graph, columns) {
            Some(input) => told(LossName::MeanSquaredError, format!("has the shape of input `{input}`")),
            None => Ok((LossName::CrossEntropy, None)),
        },
        [_, _, columns] if data::takes_text(&super::settings::input_types(base)) && of_words(graph, columns) => {
            told(LossName::NextToken, "has scores of the next token".into())
        }
        [_, _, _] => told(LossName::TokenCrossEntropy, "has scores at each position".into()),
        [_, _, _, _] => {
            let of_pixels = adapter::output_of(graph, output, Positions::Pixel)?;
            told(LossName::PixelCrossEntropy, format!("has scores for each pixel, `{}`", graph.value_name(of_pixels)))
        }
        _ => Ok((LossName::CrossEntropy, None)),
    }
}

/// The input of floats that has as many columns: what gives it again is no classifier.
fn same_as_input<'g>(graph: &'g Graph, columns: &Dim) -> Option<&'g str> {
    let same = |id: &&ValueId| {
        let ty = graph.ty(**id);
        let shape = ty.filter(|ty| ty.dtype.is_float()).and_then(|ty| ty.shape.as_deref());
        matches!(shape, Some([_, other]) if columns.fixed().is_some() && other == columns)
    };
    graph.inputs.iter().find(same).map(|id| graph.value_name(*id))
}

/// Whether there is a score for each row of a table that tokens are looked up in.
fn of_words(graph: &Graph, columns: &Dim) -> bool {
    let rows = |id: ValueId| graph.initializers.get(&id).and_then(|table: &Tensor| table.shape.first()).copied();
    let looked_up = graph.nodes.iter().filter(|node| node.op.starts_with("Gather"));
    columns
        .fixed()
        .is_some_and(|columns| looked_up.flat_map(|node| node.reads().next()).any(|id| rows(id) == Some(columns)))
}
