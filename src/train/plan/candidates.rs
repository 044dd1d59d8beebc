//! What could learn: the head, the last layers down to some depth, and those with the biases of deeper layers.

use crate::adapter::{self, Activation, Adapted, HeadChoice, Places, Positions, Request};
use crate::cut::{self, Selection};
use crate::grad;
use crate::graph::{Graph, ValueId};
use crate::train::error::Error;
use crate::train::prepare::Base;

/// A set of parameters that could learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// For the table.
    pub name: String,
    /// The setting `train`, each of its values.
    pub train: Vec<String>,
    /// Layers from the top that learn in full; 1 is the head alone.
    pub depth: usize,
}

/// What is asked of every candidate alike.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Which output to train on.
    pub output: Option<&'a str>,
    /// Classes or values of the data; `None` keeps the model's own.
    pub width: Option<u64>,
    /// What to do with the classifier.
    pub head: HeadChoice,
    /// What the loss puts behind the output.
    pub activation: Option<Activation>,
    /// What has a row of scores each.
    pub positions: Positions,
}

/// Depths that are looked at: every one at the top, then each a third deeper than the one before. The deepest is the last.
pub fn depths(deepest: usize) -> Vec<usize> {
    let mut depths = Vec::new();
    let mut depth = 2;
    while depth < deepest {
        depths.push(depth);
        depth += (depth / 3).max(1);
    }
    if deepest > 1 {
        depths.push(deepest);
    }
    depths
}

/// The head and the last layers at [`depths`], as far as a gradient reaches.
///
/// # Errors
/// An output that the model does not have.
pub fn full(base: &Base, target: Target<'_>) -> Result<Vec<Candidate>, Error> {
    let graph = &base.graph;
    let output = adapter::output_of(graph, target.output, target.positions)?;
    let layers = cut::layers(graph, output);
    let reached =
        layers.iter().rev().take_while(|layer| grad::obstacle(graph, output, &layer.weights).is_none()).count();
    let last = |depth: usize| Candidate {
        name: format!("last:{depth}"),
        train: vec!["head".into(), format!("last:{depth}")],
        depth,
    };
    let head = Candidate { name: "head".into(), train: vec!["head".into()], depth: 1 };
    Ok(std::iter::once(head).chain(depths(reached).into_iter().map(last)).collect())
}

/// The last `depth` layers with the biases of those from there to `below` (arXiv 2206.15472: a bias needs no activations
/// kept for it). `None` where there are none.
///
/// # Errors
/// An output that the model does not have.
pub fn with_biases(base: &Base, target: Target<'_>, depth: usize, below: usize) -> Result<Option<Candidate>, Error> {
    let graph = &base.graph;
    let layers = cut::layers(graph, adapter::output_of(graph, target.output, target.positions)?);
    let between = layers.iter().rev().take(below).skip(depth);
    let biases: Vec<String> = between
        .flat_map(|layer| layer.weights.iter())
        .filter(|id| is_bias(graph, **id))
        .map(|id| graph.value_name(*id).to_string())
        .collect();
    if biases.is_empty() {
        return Ok(None);
    }
    let mut train = vec!["head".into()];
    if depth > 1 {
        train.push(format!("last:{depth}"));
    }
    train.extend(biases);
    Ok(Some(Candidate { name: format!("last:{depth} + biases to last:{below}"), train, depth }))
}

fn is_bias(graph: &Graph, id: ValueId) -> bool {
    cut::is_vector(graph, id)
}

/// The base with a candidate's parameters named.
///
/// # Errors
/// A selection that does not fit the base.
pub fn install(base: &Base, target: Target<'_>, train: &[String]) -> Result<Adapted, Error> {
    let selections = train.iter().map(|text| Selection::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let request = Request {
        output: target.output,
        selections: &selections,
        method: None,
        places: Places::default(),
        seed: 0,
        width: target.width,
        head: target.head,
        activation: target.activation,
        positions: target.positions,
    };
    Ok(adapter::install(base.graph.clone(), &request)?)
}

#[cfg(test)]
mod tests {
    use super::depths;

    #[test]
    fn depths_grow_by_a_third_and_end_at_the_deepest() {
        assert!(depths(0).is_empty());
        assert!(depths(1).is_empty());
        assert_eq!(depths(2), [2]);
        assert_eq!(depths(12), [2, 3, 4, 5, 6, 8, 10, 12]);
        assert_eq!(depths(50).len(), 13);
    }
}
