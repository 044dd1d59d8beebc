//! One shape for all values of the same sizes.

use crate::graph::{Attr, Dim, Graph, Node, ValueId};
use std::collections::{HashMap, HashSet};

/// Lets nodes whose name begins with `backward` ask the first value of some sizes for its shape, in place of each value for its own: a node
/// of a graph is kilobytes of ONNX Runtime's memory. Sizes are the same where all are numbers or names of the graph's inputs' dimensions.
pub fn one_shape_each(graph: &mut Graph, backward: &str) {
    let dims = |id: ValueId| graph.ty(id).and_then(|ty| ty.shape.as_deref());
    let name = |dim: &Dim| if let Dim::Named(name) = dim { Some(name.clone()) } else { None };
    let known: HashSet<String> = graph.inputs.iter().filter_map(|id| dims(*id)).flatten().filter_map(name).collect();
    let is_known = |dim: &Dim| dim.fixed().is_some() || name(dim).is_some_and(|name| known.contains(&name));
    let mut first: HashMap<Vec<Dim>, ValueId> = HashMap::new();
    for id in graph.inputs.iter().copied().chain(graph.nodes.iter().flat_map(Node::writes)) {
        if let Some(dims) = dims(id).filter(|dims| dims.iter().all(is_known)) {
            first.entry(dims.to_vec()).or_insert(id);
        }
    }
    let mut shapes: HashMap<ValueId, ValueId> = HashMap::new();
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    let mut nodes = std::mem::take(&mut graph.nodes);
    nodes.retain_mut(|node| {
        let captures = node.attributes.values_mut().flat_map(Attr::captures_mut);
        for id in node.inputs.iter_mut().flatten().chain(captures) {
            *id = instead.get(id).copied().unwrap_or(*id);
        }
        let asks = node.op == "Shape" && node.attributes.is_empty() && node.name.starts_with(backward);
        let (Some(Some(of)), [Some(shape)], true) = (node.inputs.first().copied(), &node.outputs[..], asks) else {
            return true;
        };
        let shape = *shape;
        let dims = graph.values[of.index()].ty.as_ref().and_then(|ty| ty.shape.as_ref());
        let Some(like) = dims.and_then(|dims| first.get(dims)).copied() else { return true };
        if let Some(known) = shapes.get(&like) {
            instead.insert(shape, *known);
            return false;
        }
        shapes.insert(like, shape);
        node.inputs[0] = Some(like);
        true
    });
    graph.nodes = nodes;
}
