//! Where a gradient becomes no number: the node of the model that is to blame.
//!
//! Every value of the step graph is fetched in one run, so this is for a few samples after something has gone wrong. The way leads
//! from the first node that gives NaN back through what it reads, to where the first infinity was made: an infinity alone is
//! mostly harmless, as in the mask of an attention, until it is multiplied with a zero.

use super::error::Error;
use super::loss::Loss;
use super::prepare::Bundle;
use super::step::{Again, BACKWARD};
use crate::engine::{Optimisation, Options, Session};
use crate::graph::{Graph, Node, Tensor, ValueId};
use std::collections::{HashMap, HashSet};

/// A clause that names the node, as "node `/exp` (Exp) gives infinity"; `None` where everything is a number.
///
/// `fed` are features, labels and parameters by name.
///
/// # Errors
/// No step graph, or what ONNX Runtime refuses.
pub fn cause(
    bundle: &Bundle,
    loss: &Loss,
    fed: &[(&str, &Tensor)],
    options: &Options,
) -> Result<Option<String>, Error> {
    let mut graph = bundle.step_graph(loss, Again::Cheap)?;
    let float = |id: &ValueId| graph.ty(*id).is_none_or(|ty| ty.dtype.is_float());
    graph.outputs = graph.nodes.iter().flat_map(Node::writes).filter(float).collect();
    let plain = Options { optimisation: Optimisation::Off, ..options.clone() };
    let mut session = Session::from_graph(&graph, &plain)?;
    let taken = |name: &str| session.inputs().iter().any(|(input, _)| input == name);
    let fed: Vec<_> = fed.iter().copied().filter(|(name, _)| taken(name)).collect();
    let given = session.run(&fed)?;
    let mut marks: HashMap<ValueId, Mark> = HashMap::new();
    let named = session.outputs().iter().map(|(name, _)| name.as_str()).zip(&given);
    for (name, tensor) in named.chain(fed) {
        if let Some(id) = graph.find(name) {
            marks.insert(id, Mark::from_tensor(tensor));
        }
    }
    for (id, tensor) in &graph.initializers {
        marks.insert(*id, Mark::from_tensor(tensor));
    }
    Ok(sentence(&graph, &marks))
}

/// What a tensor holds at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Numbers,
    Infinity,
    Undefined,
}

impl Mark {
    fn from_tensor(tensor: &Tensor) -> Self {
        let values = if tensor.dtype.is_float() { tensor.to_f32() } else { None };
        let worst = |value: f32| match (value.is_nan(), value.is_infinite()) {
            (true, _) => Mark::Undefined,
            (_, true) => Mark::Infinity,
            _ => Mark::Numbers,
        };
        values.and_then(|values| values.into_iter().map(worst).max()).unwrap_or(Mark::Numbers)
    }

    fn word(self) -> &'static str {
        if self == Mark::Infinity { "infinity" } else { "no number (NaN)" }
    }
}

/// The sentence for the first value that is no number, else for the first infinity.
fn sentence(graph: &Graph, marks: &HashMap<ValueId, Mark>) -> Option<String> {
    let mark = |id: &ValueId| marks.get(id).copied().unwrap_or(Mark::Numbers);
    let worst = |node: &Node| node.writes().map(|id| mark(&id)).max().unwrap_or(Mark::Numbers);
    let first = |least: Mark| graph.nodes.iter().position(|node| worst(node) >= least);
    let mut at = first(Mark::Undefined).or_else(|| first(Mark::Infinity))?;
    let producers = graph.producers();
    loop {
        let node = &graph.nodes[at];
        let Some(read) = node.reads().filter(|id| mark(id) > Mark::Numbers).max_by_key(mark) else { break };
        match producers.get(&read) {
            Some(before) => at = *before,
            None => {
                return Some(format!(
                    "`{}`, which the part that learns reads, holds {}",
                    graph.value_name(read),
                    mark(&read).word()
                ));
            }
        }
    }
    let node = &graph.nodes[at];
    let gives = worst(node).word();
    Some(match node.name.starts_with(BACKWARD) {
        false => format!("node `{}` ({}) gives {gives}", node.name, node.op),
        true => match forward_of(graph, &producers, at) {
            Some(node) => format!("the gradient of node `{}` ({}) is {gives}", node.name, node.op),
            None => format!("the gradient itself, at its {}, is {gives}", node.op),
        },
    })
}

/// The last node of the model that a node of the gradient reads from, itself or through others.
fn forward_of<'g>(graph: &'g Graph, producers: &HashMap<ValueId, usize>, at: usize) -> Option<&'g Node> {
    let (mut wave, mut seen) = (vec![at], HashSet::new());
    while !wave.is_empty() {
        let before: Vec<usize> =
            wave.iter().flat_map(|at| graph.nodes[*at].reads()).filter_map(|id| producers.get(&id).copied()).collect();
        let forward = before.iter().copied().filter(|at| !graph.nodes[*at].name.starts_with(BACKWARD)).max();
        if let Some(forward) = forward {
            return Some(&graph.nodes[forward]);
        }
        wave = before.into_iter().filter(|at| seen.insert(*at)).collect();
    }
    None
}
