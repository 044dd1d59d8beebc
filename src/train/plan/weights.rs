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

/// Bytes of copies in a session over `graph`, whose weights up to `packed_bytes_max` bytes are copied.
pub fn copied_bytes(graph: &Graph, packed_bytes_max: u64) -> u64 {
    let all: u64 = graph.initializers.values().map(|tensor| tensor.data.len() as u64).sum();
    if all > packed_bytes_max {
        return 0;
    }
    let mut constants: HashSet<ValueId> = graph.initializers.keys().copied().collect();
    let mut copied: HashSet<ValueId> = HashSet::new();
    let mut folded_bytes = 0;
    let bytes = |id: &ValueId| match graph.initializers.get(id) {
        Some(tensor) => tensor.data.len() as u64,
        None => graph.ty(*id).and_then(bytes_of).unwrap_or(0),
    };
    for node in &graph.nodes {
        let mut reads = node.reads().peekable();
        if reads.peek().is_some() && reads.all(|id| constants.contains(&id)) {
            constants.extend(node.writes());
            folded_bytes += node.writes().map(|id| bytes(&id)).sum::<u64>();
        } else if packs(node) {
            copied.extend(node.reads().filter(|id| constants.contains(id)));
        }
    }
    folded_bytes + copied.iter().map(bytes).sum::<u64>()
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
        assert_eq!(copied_bytes(&graph, u64::MAX), 8 * 8 * 4, "once, though two products read it");
        assert_eq!(copied_bytes(&graph, 0), 0);
    }

    #[test]
    fn what_is_computed_from_weights_alone_is_kept_and_then_copied_again() {
        let b = Builder::new(Graph::new("g", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Fixed(4), Dim::Fixed(8)]));
        let half = b.constant(Tensor { dtype: DType::Float16, shape: vec![8, 8], data: vec![0; 128].into() });
        let wide = half.cast(DType::Float);
        b.output("y", x.matmul(wide));
        let id = wide.id();
        let mut graph = b.finish();
        graph.values[id.index()].ty = Some(TensorType::new(DType::Float, vec![Dim::Fixed(8), Dim::Fixed(8)]));
        assert_eq!(copied_bytes(&graph, u64::MAX), 256 + 256);
    }
}
