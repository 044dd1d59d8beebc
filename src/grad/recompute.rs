//! Values of the forward part that the gradient computes again instead of keeping them.
//!
//! A gradient reads what the forward part computed, and until then it has to be kept: most of a step's memory. What one
//! elementwise operator makes from a value that is kept anyway, or from a weight, costs one pass over memory to make again.

use crate::graph::{Graph, Node, TensorType, ValueId};
use std::collections::{HashMap, HashSet};

/// Operators that cost one pass over memory and give the same bits each time.
const ELEMENTWISE: [&str; 19] = [
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Cos",
    "Div",
    "Erf",
    "Exp",
    "LeakyRelu",
    "Log",
    "Mul",
    "Neg",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Sin",
    "Sqrt",
    "Sub",
    "Tanh",
];

/// Elementwise nodes in a row, at most.
const CHAIN: usize = 3;

/// Rows of fewer numbers (a mean, a deviation) are kept.
const ROW_MIN: u64 = 64;

/// What the names of recomputed nodes begin with.
pub const AGAIN: &str = "edgetune.again/";

/// Lets nodes whose name begins with `backward` read copies of cheap forward nodes in place of values that would have to be
/// kept for them. The values are the same to the last bit. An optimiser that unites equal nodes undoes it.
pub fn recompute(graph: &mut Graph, backward: &str) {
    let is_backward = |node: &Node| node.name.starts_with(backward);
    let producers = graph.producers();
    let free: HashSet<ValueId> = graph.inputs.iter().chain(graph.initializers.keys()).copied().collect();
    let read: HashSet<ValueId> =
        graph.nodes.iter().filter(|node| is_backward(node) && node.op != "Shape").flat_map(Node::reads).collect();

    // How many nodes in a row make a value from what is there anyway; in topological order, inputs come first.
    let mut chains: HashMap<ValueId, usize> = free.iter().map(|id| (*id, 0)).collect();
    let mut again: HashSet<ValueId> = HashSet::new();
    for node in graph.nodes.iter().filter(|node| !is_backward(node)) {
        let longest = node
            .reads()
            .map(|id| chains.get(&id).copied())
            .try_fold(0, |most, chain| chain.map(|chain| most.max(chain)));
        let cheap = node.domain.is_empty() && ELEMENTWISE.contains(&node.op.as_str());
        for id in node.writes() {
            match longest {
                Some(longest) if cheap && longest < CHAIN && is_wide(graph.ty(id)) => {
                    chains.insert(id, longest + 1);
                    if read.contains(&id) {
                        again.insert(id);
                    }
                }
                _ if read.contains(&id) => {
                    chains.insert(id, 0);
                }
                _ => {}
            }
        }
    }

    let nodes = std::mem::take(&mut graph.nodes);
    let written = Vec::with_capacity(nodes.len());
    let mut copier = Copier { graph, nodes: &nodes, producers, chains, copies: HashMap::new(), written };
    for node in &nodes {
        let mut node = node.clone();
        if is_backward(&node) && node.op != "Shape" {
            for id in node.inputs.iter_mut().flatten().filter(|id| again.contains(id)) {
                *id = copier.copy(*id);
            }
        }
        copier.written.push(node);
    }
    copier.graph.nodes = copier.written;
}

/// Makes values again, in a graph whose nodes are being written anew.
struct Copier<'a> {
    graph: &'a mut Graph,
    /// The graph's nodes as they were.
    nodes: &'a [Node],
    /// For each value, the place of its node among them.
    producers: HashMap<ValueId, usize>,
    /// For each value that can be made again, how many nodes that takes.
    chains: HashMap<ValueId, usize>,
    /// What was made again.
    copies: HashMap<ValueId, ValueId>,
    /// The graph's nodes as they will be.
    written: Vec<Node>,
}

impl Copier<'_> {
    /// The value made again, with the nodes that it takes.
    fn copy(&mut self, id: ValueId) -> ValueId {
        if self.chains[&id] == 0 {
            return id;
        }
        if let Some(made) = self.copies.get(&id) {
            return *made;
        }
        let mut node = self.nodes[self.producers[&id]].clone();
        for input in node.inputs.iter_mut().flatten() {
            *input = self.copy(*input);
        }
        let made = self.graph.add_value(&format!("{AGAIN}{}", self.graph.value_name(id)), self.graph.ty(id).cloned());
        node.name = format!("{AGAIN}{}", node.name);
        node.outputs = vec![Some(made)];
        self.written.push(node);
        self.copies.insert(id, made);
        made
    }
}

/// Whether a value is worth it: as far as its type tells, rows of many numbers.
fn is_wide(ty: Option<&TensorType>) -> bool {
    let shape = ty.and_then(|ty| ty.shape.as_ref());
    shape.is_none_or(|shape| shape.iter().filter_map(|dim| dim.fixed()).product::<u64>() >= ROW_MIN)
}
