//! The mean that a head reads where its value has more than features: over space, over time, over the tokens that count.

use super::appended::push;
use crate::graph::{DType, Dim, Graph, Tensor, TensorType, ValueId};

/// The mean of `value` over all dimensions but the first and `axis`: `[batch, features]`.
///
/// Of a text's tokens (`[batch, sequence, features]` with an open sequence, beside a model input `*mask*` of two dimensions)
/// those count whose mask is 1, as in sentence-transformers' mean pooling: what a batch was padded with must not change a
/// sample. An open dimension's size is read at run time.
pub(super) fn mean(graph: &mut Graph, value: ValueId, shape: &[Dim], axis: usize) -> ValueId {
    let axes: Vec<i64> = (1..shape.len()).filter(|i| *i != axis).map(|i| i as i64).collect();
    let flat = TensorType::new(DType::Float, vec![shape[0].clone(), shape[axis].clone()]);
    let sizes = axes.iter().map(|axis| shape[*axis as usize].fixed()).collect::<Option<Vec<u64>>>();
    let axes_value = graph.add_initializer("edgetune.head.axes", Tensor::from_i64(&[axes.len() as u64], &axes));
    let mut nodes = Nodes { graph, flat };
    match (sizes, nodes.mask(shape, axis)) {
        (Some(sizes), _) => {
            let sum = nodes.flat("ReduceSum", &[value, axes_value]);
            let scale = Tensor::from_f32(&[], &[1.0 / sizes.iter().product::<u64>() as f32]);
            let scale = nodes.graph.add_initializer("edgetune.head.scale", scale);
            nodes.flat("Mul", &[sum, scale])
        }
        (None, Some(mask)) => {
            let last = nodes.graph.add_initializer("edgetune.head.last", Tensor::from_i64(&[1], &[2]));
            let one = nodes.graph.add_initializer("edgetune.head.one", Tensor::from_f32(&[], &[1.0]));
            let weight = nodes.any("Cast", &[mask], &[("to", 1)]);
            let weight = nodes.any("Unsqueeze", &[weight, last], &[]);
            let weighted = nodes.any("Mul", &[value, weight], &[]);
            let sum = nodes.flat("ReduceSum", &[weighted, axes_value]);
            let count = push(nodes.graph, "count", "ReduceSum", &[weight, axes_value], &[("keepdims", 0)], None);
            let count = nodes.any("Max", &[count, one], &[]);
            nodes.flat("Div", &[sum, count])
        }
        (None, None) => {
            let sum = nodes.flat("ReduceSum", &[value, axes_value]);
            let sizes = nodes.any("Shape", &[value], &[]);
            let sizes = nodes.any("Gather", &[sizes, axes_value], &[]);
            let count = nodes.any("ReduceProd", &[sizes], &[("keepdims", 0)]);
            let count = nodes.any("Cast", &[count], &[("to", 1)]);
            nodes.flat("Div", &[sum, count])
        }
    }
}

/// Adds nodes to a graph.
struct Nodes<'g> {
    graph: &'g mut Graph,
    /// `[batch, features]`.
    flat: TensorType,
}

impl Nodes<'_> {
    /// The input that says which of a sequence's tokens count.
    fn mask(&self, shape: &[Dim], axis: usize) -> Option<ValueId> {
        let is_mask = |id: &&ValueId| {
            let ty = self.graph.ty(**id);
            let whole = ty.is_some_and(|ty| matches!(ty.dtype, DType::Int64 | DType::Int32) && ty.rank() == Some(2));
            whole && self.graph.value_name(**id).to_lowercase().contains("mask")
        };
        let sequence = shape.len() == 3 && axis == 2;
        self.graph.inputs.iter().find(is_mask).copied().filter(|_| sequence)
    }

    /// A node that gives `[batch, features]`; named as its operator.
    fn flat(&mut self, op: &str, inputs: &[ValueId]) -> ValueId {
        let keepdims: &[(&str, i64)] = if op == "ReduceSum" { &[("keepdims", 0)] } else { &[] };
        let flat = self.flat.clone();
        push(self.graph, op, op, inputs, keepdims, Some(flat))
    }

    /// A node whose type is inferred.
    fn any(&mut self, op: &str, inputs: &[ValueId], attributes: &[(&str, i64)]) -> ValueId {
        push(self.graph, op, op, inputs, attributes, None)
    }
}
