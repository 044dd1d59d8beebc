//! One graph's nodes written into another.

use super::{Builder, Graph, Val, ValueId};
use std::collections::HashMap;

impl Builder {
    /// Appends the nodes of a graph of the same operator sets, which reads `inputs` in the place of its own; gives its outputs. Names of
    /// its nodes and values get `prefix` before them.
    pub fn inline<'b>(&'b self, part: &Graph, prefix: &str, inputs: &[Val<'b>]) -> Vec<Val<'b>> {
        let mut ids: HashMap<ValueId, ValueId> =
            part.inputs.iter().copied().zip(inputs.iter().map(|v| v.id())).collect();
        self.change(|graph| {
            for (domain, version) in &part.domains {
                graph.domains.entry(domain.clone()).or_insert(*version);
            }
            for (id, tensor) in &part.initializers {
                let new = graph.add_initializer(&format!("{prefix}{}", part.value_name(*id)), tensor.clone());
                ids.insert(*id, new);
            }
            for node in &part.nodes {
                for id in node.writes() {
                    let name = format!("{prefix}{}", part.value_name(id));
                    ids.insert(id, graph.add_value(&name, None));
                }
                let mut copy = node.clone();
                copy.name = format!("{prefix}{}", node.name);
                let captures = copy.attributes.values_mut().flat_map(|attribute| attribute.captures_mut());
                for id in copy.inputs.iter_mut().chain(&mut copy.outputs).flatten().chain(captures) {
                    *id = ids[id];
                }
                graph.nodes.push(copy);
            }
        });
        part.outputs.iter().map(|id| self.val(ids[id])).collect()
    }
}
