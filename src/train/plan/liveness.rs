//! How many bytes of intermediate values a graph holds at the same time.
//!
//! A value lives from the node that writes it to the last node that reads it; graph outputs live to the end. Graph inputs
//! and initializers are memory of somebody else and count nothing. The peak over the nodes, in the order in which they
//! run, is what ONNX Runtime's arena has to hold (it reuses a buffer when its last reader is done, and lets an elementwise
//! node write over an input of the same size that nobody reads after it).

use super::arena::Arena;
use crate::engine;
use crate::graph::{DType, Dim, Graph, Node, TensorType, ValueId};
use crate::train::slices;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Blocks of ONNX Runtime's arena are multiples of this many bytes.
const BLOCK: u64 = 256;

/// The most that lives at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peak {
    /// Bytes of all live values, each rounded up to the arena's blocks.
    pub bytes: u64,
    /// The node that runs then; empty where the graph has none.
    pub node: String,
}

/// Gives every named dimension its size and infers all types anew: what depended on the names becomes a number. `sizes`
/// are by name; dimensions that are not among them stay open.
///
/// # Errors
/// ONNX Runtime's refusal.
pub fn bind(graph: &Graph, sizes: &BTreeMap<String, u64>) -> Result<Graph, engine::Error> {
    let mut bound = graph.clone();
    for id in &bound.inputs {
        for dim in bound.values[id.index()].ty.iter_mut().flat_map(|ty| ty.shape.iter_mut().flatten()) {
            if let Dim::Named(name) = dim
                && let Some(size) = sizes.get(name)
            {
                *dim = Dim::Fixed(*size);
            }
        }
    }
    let written: Vec<ValueId> = bound.nodes.iter().flat_map(Node::writes).collect();
    for id in written {
        bound.values[id.index()].ty = None;
    }
    engine::infer_types(&mut bound)?;
    Ok(bound)
}

/// Bytes of a value of that type, where every dimension is known.
pub fn bytes_of(ty: &TensorType) -> Option<u64> {
    let elements: u64 = ty.fixed_shape()?.iter().product();
    Some((elements * ty.dtype.bits() as u64).div_ceil(8))
}

/// The peak of a graph from [`bind`]. A value of unknown size is taken to be as large as the largest input of its node:
/// what gradients are made of is shaped like what they are gradients of.
pub fn peak(graph: &Graph) -> Peak {
    let (mut live, mut peak) = (0, Peak::default());
    let mut held: HashMap<ValueId, u64> = HashMap::new();
    walk(graph, |moment| match moment {
        Moment::Begins(id, bytes) => {
            live += bytes;
            held.insert(id, bytes);
        }
        Moment::Runs(node) if live > peak.bytes => peak = Peak { bytes: live, node: node.name.clone() },
        Moment::Runs(_) => {}
        Moment::Ends(id) => live -= held[&id],
    });
    peak
}

/// Bytes that ONNX Runtime's arena makes resident for a graph from [`bind`]: the values of [`peak`], where the arena puts
/// them. Graph outputs are buffers of the caller. The graph runs twice: the second run finds the pieces of the first.
pub fn arena_bytes(graph: &Graph) -> u64 {
    let mut arena = Arena::default();
    let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    for _ in 0..2 {
        let mut addresses: HashMap<ValueId, u64> = HashMap::new();
        walk(graph, |moment| match moment {
            Moment::Begins(id, bytes) if !outputs.contains(&id) => {
                addresses.insert(id, arena.allocate(bytes));
            }
            Moment::Ends(id) => {
                if let Some(address) = addresses.remove(&id) {
                    arena.free(address);
                }
            }
            _ => {}
        });
    }
    arena.resident_bytes()
}

/// What happens to the buffers while a graph runs.
enum Moment<'g> {
    /// A buffer of so many bytes is taken.
    Begins(ValueId, u64),
    /// A node runs, with its outputs' buffers taken.
    Runs(&'g Node),
    /// A buffer is given back.
    Ends(ValueId),
}

/// Tells every moment of a run in its order.
fn walk(graph: &Graph, mut tell: impl FnMut(Moment<'_>)) {
    let graph = &with_scratch(in_order_of_running(graph));
    let sizes = sizes(graph);
    let owners = owners(graph, &sizes);
    let mut last_reader: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for owner in node.reads().chain(node.writes()).filter_map(|id| owners.get(&id)) {
            last_reader.insert(*owner, index);
        }
    }
    for owner in graph.outputs.iter().filter_map(|id| owners.get(id)) {
        last_reader.insert(*owner, graph.nodes.len());
    }
    let mut ending: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in node.writes().filter(|id| owners.get(id) == Some(id)) {
            tell(Moment::Begins(id, sizes[&id]));
            ending.entry(last_reader[&id]).or_default().push(id);
        }
        tell(Moment::Runs(node));
        ending.remove(&index).into_iter().flatten().for_each(|id| tell(Moment::Ends(id)));
    }
    ending.into_values().flatten().for_each(|id| tell(Moment::Ends(id)));
}

/// The graph with its nodes in the order in which ONNX Runtime runs them (`GraphViewer` with `ExecutionOrder::DEFAULT`):
/// depth first from the last node that nobody reads, of a node's inputs the one that was written last first.
fn in_order_of_running(graph: &Graph) -> Graph {
    let producers = graph.producers();
    let readers = graph.consumers();
    let is_leaf = |node: &Node| !node.writes().any(|id| readers.contains_key(&id));
    let leaves = graph.nodes.iter().enumerate().filter(|(_, node)| is_leaf(node));
    // A node is on the stack a second time, marked, below its inputs: then it runs.
    let mut stack: Vec<(usize, bool)> = leaves.map(|(index, _)| (index, false)).collect();
    let mut visited = vec![false; graph.nodes.len()];
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some((index, inputs_done)) = stack.pop() {
        if inputs_done {
            order.push(graph.nodes[index].clone());
        } else if !std::mem::replace(&mut visited[index], true) {
            stack.push((index, true));
            let before: BTreeSet<usize> =
                graph.nodes[index].reads().filter_map(|id| producers.get(&id).copied()).collect();
            stack.extend(before.into_iter().filter(|input| !visited[*input]).map(|input| (input, false)));
        }
    }
    let mut ordered = graph.clone();
    ordered.nodes = order;
    ordered
}

/// The graph with what a loop over slices of a loss holds inside as one more buffer, which is there while the loop runs.
fn with_scratch(mut graph: Graph) -> Graph {
    for index in (0..graph.nodes.len()).rev() {
        let Some(body) = slices::of_a_loss(&graph, &graph.nodes[index]) else { continue };
        let ty = TensorType::new(DType::Uint8, vec![Dim::Fixed(peak(&body).bytes)]);
        let scratch = graph.add_value("scratch", Some(ty));
        let name = graph.nodes[index].name.clone();
        graph.nodes[index].inputs.push(Some(scratch));
        graph.nodes.insert(index, Node { name, outputs: vec![Some(scratch)], ..Node::default() });
    }
    graph
}

/// Bytes of every value, in whole blocks of the arena.
fn sizes(graph: &Graph) -> HashMap<ValueId, u64> {
    let mut sizes: HashMap<ValueId, u64> = HashMap::new();
    let known = |id: ValueId| graph.ty(id).and_then(bytes_of).map(|bytes| bytes.next_multiple_of(BLOCK));
    for id in graph.inputs.iter().chain(graph.initializers.keys()) {
        sizes.insert(*id, known(*id).unwrap_or(0));
    }
    for node in &graph.nodes {
        let largest = node.reads().filter_map(|id| sizes.get(&id)).max().copied().unwrap_or(BLOCK);
        for id in node.writes() {
            sizes.insert(id, known(id).unwrap_or(largest));
        }
    }
    sizes
}

/// The value whose buffer each written value lives in: its own, or that of an input which it views or is written over.
/// Values in buffers that are not the graph's own (inputs, initializers) have none.
fn owners(graph: &Graph, sizes: &HashMap<ValueId, u64>) -> HashMap<ValueId, ValueId> {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    for id in graph.nodes.iter().flat_map(Node::reads) {
        *readers.entry(id).or_default() += 1;
    }
    let kept: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut owners: HashMap<ValueId, ValueId> = HashMap::new();
    // Readers that a buffer still has, its views' included.
    let mut pending: HashMap<ValueId, usize> = HashMap::new();
    let mut foreign: HashSet<ValueId> = graph.inputs.iter().chain(graph.initializers.keys()).copied().collect();
    for node in &graph.nodes {
        for id in node.reads() {
            if let Some(count) = owners.get(&id).and_then(|owner| pending.get_mut(owner)) {
                *count -= 1;
            }
        }
        for (place, id) in node.outputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let first = node.inputs.first().copied().flatten();
            let mut owner = id;
            if place == 0 && views(node) {
                match first {
                    // An output has a buffer of its own, into which what it would view is copied.
                    Some(first) if foreign.contains(&first) && !kept.contains(&id) => {
                        foreign.insert(id);
                        continue;
                    }
                    Some(first) => owner = owners.get(&first).copied().filter(|_| !kept.contains(&id)).unwrap_or(id),
                    None => {}
                }
            } else if place == 0 && writes_over(node) && !kept.contains(&id) {
                let over = node.inputs.iter().flatten().filter_map(|input| owners.get(input)).find(|owner| {
                    pending.get(owner) == Some(&0) && sizes[owner] == sizes[&id] && !kept.contains(owner)
                });
                owner = over.copied().unwrap_or(id);
            }
            owners.insert(id, owner);
            *pending.entry(owner).or_default() += readers.get(&id).copied().unwrap_or(0);
        }
    }
    owners
}

/// Operators whose output is their first input under another shape.
fn views(node: &Node) -> bool {
    node.domain.is_empty()
        && matches!(node.op.as_str(), "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Dropout")
}

/// Operators that ONNX Runtime's CPU kernels may compute in an input's place (`MayInplace` in their registration).
fn writes_over(node: &Node) -> bool {
    node.domain.is_empty()
        && matches!(
            node.op.as_str(),
            "Abs"
                | "Add"
                | "Cast"
                | "Ceil"
                | "Clip"
                | "Div"
                | "Elu"
                | "Erf"
                | "Exp"
                | "Floor"
                | "HardSigmoid"
                | "LeakyRelu"
                | "Log"
                | "LogSoftmax"
                | "Mul"
                | "Neg"
                | "Not"
                | "Reciprocal"
                | "Relu"
                | "Sigmoid"
                | "Softmax"
                | "Softplus"
                | "Softsign"
                | "Sqrt"
                | "Sub"
                | "Sum"
                | "Tanh"
        )
}
