//! Nodes that are put behind a graph's end: those of a new head.

use crate::graph::{Attr, Graph, Node, TensorType, ValueId};

/// Appends a node with one output; both are called `edgetune.head/<name>`. `ty`: the output's type, where it is not to be inferred.
pub(super) fn push(
    graph: &mut Graph,
    name: &str,
    op: &str,
    inputs: &[ValueId],
    attributes: &[(&str, i64)],
    ty: Option<TensorType>,
) -> ValueId {
    let name = format!("edgetune.head/{name}");
    let output = graph.add_value(&name, ty);
    graph.nodes.push(Node {
        name,
        op: op.into(),
        inputs: inputs.iter().map(|id| Some(*id)).collect(),
        outputs: vec![Some(output)],
        attributes: attributes.iter().map(|(name, value)| (name.to_string(), Attr::Int(*value))).collect(),
        ..Node::default()
    });
    output
}
