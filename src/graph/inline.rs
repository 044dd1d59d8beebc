//! One graph's nodes written into another, and what makes both of one operator set.

use super::{Attr, Builder, Graph, Tensor, Val, ValueId};
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

/// Reductions whose axes are an attribute before operator set 18, and an input from there on.
const REDUCTIONS: [&str; 9] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
];
/// Operators that mean something else in a later set, or are written in another way.
const CHANGED: [&str; 3] = ["DFT", "GridSample", "GroupNormalization"];

impl Graph {
    /// Rewrites a graph of operator set 17 or later for a later one; a graph of that set stays as it is. From 17 on most operators
    /// only get more element types.
    ///
    /// # Errors
    /// The index of a node that is not rewritten: an operator that changed, or one with a graph inside.
    pub fn raise(&mut self, opset: i64) -> Result<(), usize> {
        if self.opset >= opset {
            return Ok(());
        }
        let stays = |node: &super::Node| {
            let inner = |value: &Attr| matches!(value, Attr::Graph { .. } | Attr::Body { .. });
            node.domain.is_empty() && (CHANGED.contains(&&*node.op) || node.attributes.values().any(inner))
        };
        if let Some(index) = self.nodes.iter().position(stays) {
            return Err(index);
        }
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if !node.domain.is_empty() || self.opset >= 18 {
                continue;
            }
            if node.op == "Split" && node.inputs.len() < 2 && !node.attributes.contains_key("num_outputs") {
                node.attributes.insert("num_outputs".into(), Attr::Int(node.outputs.len() as i64));
            }
            if REDUCTIONS.contains(&&*node.op)
                && let Some(Attr::Ints(axes)) = node.attributes.remove("axes")
            {
                let name = format!("{}/axes", node.name);
                let axes = self.add_initializer(&name, Tensor::from_i64(&[axes.len() as u64], &axes));
                self.nodes[index].inputs.push(Some(axes));
            }
        }
        self.opset = opset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{DType, Dim, TensorType};

    #[test]
    fn axes_become_inputs_and_what_changed_is_named() {
        let b = Builder::new(Graph::new("g", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Fixed(2), Dim::Fixed(3)]));
        let mean = b.op("ReduceMean", &[x], &[("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(0))]);
        b.output("y", mean);
        let mut graph = b.finish();
        graph.raise(17).unwrap();
        assert_eq!(graph.nodes[0].inputs.len(), 1);
        graph.raise(20).unwrap();
        let axes = graph.nodes[0].inputs[1].unwrap();
        assert_eq!((graph.initializers[&axes].to_i64().unwrap(), graph.opset), (vec![1], 20));
        assert!(!graph.nodes[0].attributes.contains_key("axes"));
        graph.nodes[0].op = "GridSample".into();
        assert_eq!((graph.raise(21), graph.raise(20)), (Err(0), Ok(())));
    }
}
