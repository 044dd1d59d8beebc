//! Inputs whose batch is not their first dimension, as PyTorch's own default for sequences has them: `[time, batch, features]`.
//!
//! Everything behind the reader takes a sample a row. So such an input is taken with the batch first, and a `Transpose` gives the model
//! what it wants; a model that is exported again takes its inputs as before.

use crate::graph::{Attr, DType, Dim, Graph, Node, TensorType, ValueId};

/// What the names of the nodes begin with that move the batch.
const MOVED: &str = "edgetune.batch_first/";

/// Moves the batch of every input to the front: from the dimension `given`, in inputs that have one, else from that which is called so
/// (`batch`, `N`), or by whose name every output begins. Whether an input has a dimension `given`, where there is such.
pub fn batch_first(graph: &mut Graph, given: Option<usize>) -> bool {
    let mut is_found = given.is_none();
    for id in graph.inputs.clone() {
        let Some(TensorType { dtype, shape: Some(shape) }) = graph.ty(id).cloned() else { continue };
        let axis = match given {
            Some(axis) => Some(axis).filter(|axis| *axis < shape.len()),
            None => only((0..shape.len()).filter(|axis| is_batch(&shape[*axis]))).or_else(|| of_outputs(graph, id)),
        };
        let Some(axis) = axis else { continue };
        is_found = true;
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
    is_found
}

/// The dimension of an input of floats that is every output's first, under a name that nothing is known of. Of tokens it may be the
/// place in a text, each of which has an answer.
fn of_outputs(graph: &Graph, input: ValueId) -> Option<usize> {
    let ty = graph.ty(input).filter(|ty| ty.dtype == DType::Float)?;
    let first = |id: &ValueId| match graph.ty(*id).and_then(|ty| ty.shape.as_ref())?.first()? {
        Dim::Named(name) => Some(name.clone()),
        _ => None,
    };
    let name = first(graph.outputs.first()?)?;
    let is_in_all = graph.outputs.iter().all(|output| first(output).as_ref() == Some(&name));
    let shape = ty.shape.as_ref()?;
    only((0..shape.len()).filter(|axis| shape[*axis] == Dim::Named(name.clone()))).filter(|_| is_in_all)
}

/// The one element, where there is one and no more.
fn only(mut elements: impl Iterator<Item = usize>) -> Option<usize> {
    elements.next().filter(|_| elements.next().is_none())
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
    use crate::graph::Builder;

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
            batch_first(&mut graph, None);
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
            batch_first(&mut graph, None);
            graph.nodes.len()
        };
        assert_eq!(of(&["batch", "time"]), 0);
        assert_eq!(of(&["rows", "time"]), 0);
        assert_eq!(of(&["batch", "N"]), 0, "two batches");
        assert_eq!(of(&["time", "batch"]), 1);
    }

    #[test]
    fn what_every_output_begins_with_is_the_batch() {
        let with = |dtype, outputs: &[&str]| {
            let mut graph = Graph::new("g", 17);
            let open = |name: &str| Dim::Named(name.into());
            graph.add_input("x", TensorType::new(dtype, vec![Dim::Fixed(6), open("rows"), Dim::Fixed(3)]));
            for name in outputs {
                let output =
                    graph.add_value(name, Some(TensorType::new(DType::Float, vec![open(name), Dim::Fixed(2)])));
                graph.outputs.push(output);
            }
            batch_first(&mut graph, None);
            graph.ty(graph.inputs[0]).unwrap().to_string()
        };
        assert_eq!(with(DType::Float, &["rows"]), "float[rows,6,3]");
        assert_eq!(with(DType::Float, &["rows", "other"]), "float[6,rows,3]");
        assert_eq!(with(DType::Int64, &["rows"]), "int64[6,rows,3]", "an answer for each token");
    }

    #[test]
    fn a_batch_that_is_told_by_its_place_is_taken_from_there() {
        let with = |given| {
            let mut graph = Graph::new("g", 17);
            let open = |name: &str| Dim::Named(name.into());
            graph.add_input("x", TensorType::new(DType::Float, vec![open("d0"), open("d1"), Dim::Fixed(3)]));
            graph.add_input("lengths", TensorType::new(DType::Int64, vec![open("d1")]));
            let is_found = batch_first(&mut graph, Some(given));
            let [x, lengths] = graph.inputs[..] else { panic!() };
            (is_found, graph.ty(x).unwrap().to_string(), graph.ty(lengths).unwrap().to_string())
        };
        assert_eq!(with(1), (true, "float[d1,d0,3]".into(), "int64[d1]".into()));
        assert_eq!(with(0), (true, "float[d0,d1,3]".into(), "int64[d1]".into()));
        assert!(!with(3).0);
    }
}
