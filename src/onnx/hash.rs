//! A model's identity: what adapters are bound to and feature caches are keyed by.

use super::proto::GraphProto;
use super::{names, node};
use crate::graph::{Attr, Graph, Node, Tensor, ValueId};
use crate::mapped;
use blake3::Hasher;
use prost::Message;

/// BLAKE3 over what the graph computes and how it is addressed, not over a file's bytes.
///
/// Covered: the version of `ai.onnx` and of other domains in use; inputs in order (name, element type, dimensions);
/// outputs in order (name); of every node that an output depends on the operator, domain, attributes (tensors in full;
/// sub-graphs in full and in their order) and the names of the values it reads and writes; of every initializer that an
/// output depends on the name, element type, shape and bytes.
///
/// Not covered, so that they may differ: where weights are stored; `Constant` node or initializer; called function or
/// inlined nodes of the same value names; the order of initializers and of nodes; names of nodes and graphs; declared
/// types of other values; anything no output depends on; producer, format version, documentation, metadata.
///
/// Value names count because recipes, cuts and adapters refer to values by name.
pub fn hash(graph: &Graph) -> [u8; 32] {
    let mut hasher = Hasher::new();
    text(&mut hasher, "edgetune graph 1");
    number(&mut hasher, graph.opset as u64);
    let live = graph.ancestors(graph.outputs.iter().copied());
    let nodes = graph.nodes.iter().filter(|node| node.writes().any(|id| live.contains(&id)));
    let constants = graph.initializers.iter().filter(|(id, _)| live.contains(id));
    number(&mut hasher, graph.inputs.len() as u64);
    for id in &graph.inputs {
        value(&mut hasher, graph, *id);
        text(&mut hasher, &graph.ty(*id).map(|ty| ty.to_string()).unwrap_or_default());
    }
    number(&mut hasher, graph.outputs.len() as u64);
    for id in &graph.outputs {
        value(&mut hasher, graph, *id);
    }
    sorted(&mut hasher, nodes.map(|node| hash_node(graph, node)));
    sorted(&mut hasher, constants.map(|(id, tensor)| hash_constant(graph.value_name(*id), tensor)));
    hasher.finalize().into()
}

/// Hashes a set: its members in the order of their hashes.
fn sorted(hasher: &mut Hasher, members: impl Iterator<Item = blake3::Hash>) {
    let mut members: Vec<[u8; 32]> = members.map(Into::into).collect();
    members.sort_unstable();
    number(hasher, members.len() as u64);
    for member in members {
        hasher.update(&member);
    }
}

fn hash_constant(name: &str, constant: &Tensor) -> blake3::Hash {
    let mut hasher = Hasher::new();
    text(&mut hasher, name);
    tensor(&mut hasher, constant);
    // Read once: the next reader is another file's, the bundle's.
    mapped::forget_pages(&constant.data);
    hasher.finalize()
}

fn hash_node(graph: &Graph, node: &Node) -> blake3::Hash {
    let mut hasher = Hasher::new();
    text(&mut hasher, &node.op);
    domain(&mut hasher, graph, &node.domain);
    for values in [&node.inputs, &node.outputs] {
        // Trailing omitted values mean the same as values not listed.
        let given = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        number(&mut hasher, given as u64);
        for id in &values[..given] {
            text(&mut hasher, id.map(|id| graph.value_name(id)).unwrap_or_default());
        }
    }
    number(&mut hasher, node.attributes.len() as u64);
    for (name, attr) in &node.attributes {
        text(&mut hasher, name);
        attribute(&mut hasher, graph, attr);
    }
    hasher.finalize()
}

/// Each kind starts with a number of its own, so that no two attributes give the same bytes.
fn attribute(hasher: &mut Hasher, graph: &Graph, attr: &Attr) {
    match attr {
        Attr::Int(value) => numbers(hasher, 1, [*value as u64]),
        Attr::Float(value) => numbers(hasher, 2, [u64::from(value.to_bits())]),
        Attr::Str(value) => {
            number(hasher, 3);
            text(hasher, value);
        }
        Attr::Tensor(value) => {
            number(hasher, 4);
            tensor(hasher, value);
        }
        Attr::Ints(values) => numbers(hasher, 5, values.iter().map(|value| *value as u64)),
        Attr::Floats(values) => numbers(hasher, 6, values.iter().map(|value| u64::from(value.to_bits()))),
        Attr::Strs(values) => {
            numbers(hasher, 7, [values.len() as u64]);
            values.iter().for_each(|value| text(hasher, value));
        }
        Attr::Graph { encoded, captures } => inside(hasher, graph, node::subgraph(graph, encoded, captures)),
        Attr::Body { graph: inner, captures } => inside(hasher, graph, node::body(graph, inner, captures)),
    }
}

/// A sub-graph of `graph`.
fn inside(hasher: &mut Hasher, graph: &Graph, mut inner: GraphProto) {
    number(hasher, 8);
    unname(&mut inner);
    inner.node.iter().for_each(|node| node::each_domain(node, &mut |used| domain(hasher, graph, used)));
    let encoded = inner.encode_to_vec();
    number(hasher, encoded.len() as u64);
    hasher.update(&encoded);
}

fn tensor(hasher: &mut Hasher, tensor: &Tensor) {
    numbers(hasher, tensor.dtype.onnx() as u64, tensor.shape.iter().copied());
    number(hasher, tensor.data.len() as u64);
    hasher.update(&tensor.data);
}

fn value(hasher: &mut Hasher, graph: &Graph, id: ValueId) {
    text(hasher, graph.value_name(id));
}

/// Names of nodes and graphs do not count, inside as outside.
fn unname(graph: &mut GraphProto) {
    graph.name = None;
    for node in &mut graph.node {
        node.name = None;
        names::subgraphs_mut(node).for_each(unname);
    }
}

/// An operator-set domain with its version; `ai.onnx` is hashed once for the whole graph.
fn domain(hasher: &mut Hasher, graph: &Graph, domain: &str) {
    text(hasher, domain);
    number(hasher, graph.domains.get(domain).copied().unwrap_or_default() as u64);
}

/// Lengths before contents: otherwise `ab`, `c` and `a`, `bc` would be the same.
fn text(hasher: &mut Hasher, text: &str) {
    number(hasher, text.len() as u64);
    hasher.update(text.as_bytes());
}

fn number(hasher: &mut Hasher, number: u64) {
    hasher.update(&number.to_le_bytes());
}

fn numbers(hasher: &mut Hasher, kind: u64, values: impl IntoIterator<Item = u64>) {
    number(hasher, kind);
    let values: Vec<u64> = values.into_iter().collect();
    number(hasher, values.len() as u64);
    values.into_iter().for_each(|value| number(hasher, value));
}
