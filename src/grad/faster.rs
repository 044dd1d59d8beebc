//! Forward nodes that are slow because their weights learn, written another way.

use super::rules::faster;
use super::{At, opset_of};
use crate::graph::{Builder, Graph};
use std::collections::{HashMap, HashSet};

/// The graph with nodes exchanged that ONNX Runtime runs fast only while their weights are constants: in a step graph
/// the weights are inputs. The values keep their names and types; the numbers differ by rounding.
pub fn with_faster_nodes(graph: Graph) -> Graph {
    let known = graph.clone();
    let (gradients, needed) = (HashMap::new(), HashSet::new());
    let builder = Builder::new(graph, "edgetune.faster/");
    let mut exchanged = HashMap::new();
    for (index, node) in known.nodes.iter().enumerate() {
        let at = At::new(&builder, &known, node, &gradients, &needed, opset_of(&known, node));
        if let Some(y) = faster(&at) {
            exchanged.insert(index, (y.id(), at.y(0).id()));
        }
    }
    if exchanged.is_empty() {
        return known;
    }
    let mut graph = builder.finish();
    let ids: HashMap<_, _> = exchanged.values().copied().collect();
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !exchanged.contains_key(&(index - 1))
    });
    for id in graph.nodes.iter_mut().flat_map(|node| node.outputs.iter_mut()).flatten() {
        *id = ids.get(id).copied().unwrap_or(*id);
    }
    graph.sort().expect("an exchanged node reads what the first one read");
    graph
}
