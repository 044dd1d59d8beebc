//! Inputs whose batch is not their first dimension, as PyTorch's own default for sequences has them: `[time, batch, features]`.
//!
//! Everything behind the reader takes a sample a row. So such an input is taken with the batch first, and a `Transpose` gives the model
//! what it wants; a model that is exported again takes its inputs as before.

use crate::graph::{Attr, Dim, Graph, Node, TensorType, ValueId};

/// What the names of the nodes begin with that move the batch.
const MOVED: &str = "edgetune.batch_first/";

/// Moves the batch of every input to the front that has it elsewhere by name (`batch`, `N`).
pub fn batch_first(graph: &mut Graph) {
    for id in graph.inputs.clone() {
        let Some(TensorType { dtype, shape: Some(shape) }) = graph.ty(id).cloned() else { continue };
        let named: Vec<usize> = (0..shape.len()).filter(|axis| is_batch(&shape[*axis])).collect();
        let [axis] = named[..] else { continue };
        if axis == 0 {
            continue;
        }
        let mut first = shape.clone();
        let batch = first.remove(axis);
        first.insert(0, batch);
        let given =
            graph.add_value(&format!("{MOVED}{}", graph.value_name(id)), Some(TensorType::new(dtype, shape.clone())));
        exchange(graph, id, given);
        // The batch is the first of the new dimensions, the others follow in their order.
        let perm = (0..shape.len()).map(|at| if at == axis { 0 } else { at as i64 + i64::from(at < axis) }).collect();
        graph.values[id.index()].ty = Some(TensorType::new(dtype, first));
        let name = graph.value_name(given).to_string();
        let attributes = [("perm".into(), Attr::Ints(perm))].into();
        let (inputs, outputs) = (vec![Some(id)], vec![Some(given)]);
        graph.nodes.insert(0, Node { name, op: "Transpose".into(), inputs, outputs, attributes, ..Node::default() });
    }
}

/// Undoes [`batch_first`] in a graph that is to be written for others.
pub fn batch_as_given(graph: &mut Graph) {
    let (moved, kept): (Vec<Node>, Vec<Node>) = std::mem::take(&mut graph.nodes)
        .into_iter()
        .partition(|node| node.name.starts_with(MOVED) && node.op == "Transpose");
    graph.nodes = kept;
    for node in moved {
        let (Some(id), Some(given)) = (node.inputs[0], node.outputs[0]) else { continue };
        let ty = graph.ty(given).cloned();
        let shape = graph.ty(id).and_then(|ty| ty.shape.clone());
        let perm = node.ints("perm").unwrap_or_default();
        let dims = shape.map(|shape| perm.iter().map(|from| shape[*from as usize].clone()).collect());
        graph.values[id.index()].ty = ty.map(|ty| TensorType { shape: dims, ..ty });
        exchange(graph, given, id);
    }
}

/// Lets nodes read another value.
fn exchange(graph: &mut Graph, from: ValueId, to: ValueId) {
    for node in &mut graph.nodes {
        let captured = node.attributes.values_mut().flat_map(Attr::captures_mut);
        node.inputs.iter_mut().flatten().chain(captured).filter(|id| **id == from).for_each(|id| *id = to);
    }
    graph.outputs.iter_mut().filter(|id| **id == from).for_each(|id| *id = to);
}

/// Whether a dimension is called as exporters' users call the batch.
fn is_batch(dim: &Dim) -> bool {
    let Dim::Named(name) = dim else { return false };
    let name = name.to_lowercase();
    ["n", "bs", "b"].contains(&name.as_str())
        || ["batch", "batch_size", "batchsize", "batch_dim", "num_samples"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, DType};

    #[test]
    fn a_batch_in_the_second_place_is_taken_first_and_given_back() {
        for name in ["batch", "N", "batch_size"] {
            let b = Builder::new(Graph::new("sequence", 17), "");
            let dims = vec![Dim::Named("time".into()), Dim::Fixed(3), Dim::Named(name.into())];
            let x = b.input("x", TensorType::new(DType::Float, dims.clone()));
            let y = x.unary("Relu").id();
            let mut graph = b.finish();
            graph.outputs = vec![y];
            let before = graph.clone();
            batch_first(&mut graph);
            let input = graph.inputs[0];
            assert_eq!(graph.ty(input).unwrap().to_string(), format!("float[{name},time,3]"));
            assert_eq!(graph.nodes[0].ints("perm"), Some(&[1, 2, 0][..]));
            assert_eq!(graph.nodes[1].inputs, graph.nodes[0].outputs);
            batch_as_given(&mut graph);
            assert_eq!((&graph.nodes, graph.ty(input)), (&before.nodes, before.ty(input)));
        }
    }

    #[test]
    fn a_batch_in_the_first_place_or_without_a_name_stays() {
        let of = |dims: &[&str]| {
            let mut graph = Graph::new("g", 17);
            let dims = dims.iter().map(|name| Dim::Named((*name).into())).collect();
            graph.add_input("x", TensorType::new(DType::Float, dims));
            batch_first(&mut graph);
            graph.nodes.len()
        };
        assert_eq!(of(&["batch", "time"]), 0);
        assert_eq!(of(&["rows", "time"]), 0);
        assert_eq!(of(&["batch", "N"]), 0, "two batches");
        assert_eq!(of(&["time", "batch"]), 1);
    }
}
