//! How many bytes of weights a session holds as copies.
//!
//! What ONNX Runtime copies is measured in `engine/residence.rs`: kernels of products and convolutions lay their weights out
//! anew, lookups and elementwise operators read them where they lie, and what depends on weights alone is computed once and
//! kept.

use super::liveness::bytes_of;
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashSet;

/// Operators whose kernels lay out a constant input anew.
const PACKING: [&str; 10] = [
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
];

/// Bytes of copies in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// For as long as the session lives.
    pub kept_bytes: u64,
    /// While it is made: what was computed from weights, until the kernels have their own layout of it.
    pub loading_bytes: u64,
}

/// The copies in a session over `graph` (types known), whose weights up to `packed_bytes_max` bytes are copied.
pub fn copies(graph: &Graph, packed_bytes_max: u64) -> Copies {
    let all: u64 = graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum();
    if all > packed_bytes_max {
        return Copies::default();
    }
    let mut folded: HashSet<ValueId> = HashSet::new();
    let mut packed: HashSet<ValueId> = HashSet::new();
    let mut read_as_they_are: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    for node in &graph.nodes {
        let is_constant = |id: &ValueId| graph.initializers.contains_key(id) || folded.contains(id);
        // Dequantising is left to the run: kernels of integers take its input.
        let folds = node.op != "DequantizeLinear" && node.reads().next().is_some();
        if folds && node.reads().all(|id| is_constant(&id)) {
            folded.extend(node.writes());
        } else if packs(node) {
            packed.extend(node.reads().filter(is_constant));
        } else {
            read_as_they_are.extend(node.reads());
        }
    }
    let bytes = |id: &ValueId| graph.ty(*id).and_then(bytes_of).unwrap_or(0);
    let sum = |ids: &mut dyn Iterator<Item = &ValueId>| ids.map(bytes).sum::<u64>();
    let kept = sum(&mut packed.iter()) + sum(&mut folded.intersection(&read_as_they_are));
    let made = sum(&mut folded.iter()) + sum(&mut packed.iter());
    Copies { kept_bytes: kept, loading_bytes: made.saturating_sub(kept) }
}

fn packs(node: &Node) -> bool {
    node.domain.is_empty() && PACKING.contains(&node.op.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, DType, Dim, Tensor, TensorType};

    #[test]
    fn products_copy_their_weights_and_lookups_and_sums_read_them_in_place() {
        let b = Builder::new(Graph::new("g", 17), "");
        let weight = |rows: u64, columns: u64, value: f32| {
            b.constant(Tensor::from_f32(&[rows, columns], &vec![value; (rows * columns) as usize]))
        };
        let rows = weight(100, 8, 0.1).gather(b.input("x", TensorType::new(DType::Int64, vec![Dim::Fixed(4)])), 0);
        let shared = weight(8, 8, 0.2);
        let product = rows.matmul(shared).matmul(shared) + weight(4, 8, 0.3);
        b.output("y", product);
        let graph = b.finish();
        let copied = Copies { kept_bytes: 8 * 8 * 4, loading_bytes: 0 };
        assert_eq!(copies(&graph, u64::MAX), copied, "once, though two products read it");
        assert_eq!(copies(&graph, 0), Copies::default());
    }

    #[test]
    fn what_is_computed_from_weights_alone_is_there_until_it_is_copied() {
        let b = Builder::new(Graph::new("g", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Fixed(4), Dim::Fixed(8)]));
        let half = b.constant(Tensor { dtype: DType::Float16, shape: vec![8, 8], data: vec![0; 128].into() });
        let wide = half.cast(DType::Float);
        b.output("y", x.matmul(wide));
        let id = wide.id();
        let mut graph = b.finish();
        graph.values[id.index()].ty = Some(TensorType::new(DType::Float, vec![Dim::Fixed(8), Dim::Fixed(8)]));
        assert_eq!(copies(&graph, u64::MAX), Copies { kept_bytes: 256, loading_bytes: 256 });
    }
}
