//! The embeddings of an encoder as one node, as ONNX Runtime's transformer optimiser fuses them.

use super::added::added;
use super::norm::{centred, normalised};
use super::shape::sizes;
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Tensor, Val};

/// s = W\[words\] + P\[positions\] + T\[types\], y = γ · ŝ + β with ŝ = (s − μ) / σ over the last dimension  ⇒
/// dγ = Σ dy · ŝ, dβ = Σ dy, ds as in [`super::norm::layer`] and what comes from output 2, which is s;
/// dW, dP and dT: ds added up at the rows that were picked (`com.microsoft`)
///
/// Inputs: words, types, W, P, T, γ, β, mask, positions; without positions they are 0, 1, ….
pub fn layer<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (b, hidden, dy) = (n.builder(), n.fixed(5, 0)?, n.dy(0));
    let over_rows = |value: Val<'b>| value.reduce_sum(&[0, 1], false);
    let mut dx: Vec<Option<Val<'b>>> = vec![None; n.inputs()];
    dx[6] = n.needs(6).then(|| over_rows(dy));
    let (tables, scale) = ([2, 3, 4].into_iter().any(|i| n.needs(i)), n.needs(5));
    if !tables && !scale {
        return Ok(dx);
    }
    let words = n.x(0).cast(DType::Int64);
    let types = || n.x(1).cast(DType::Int64);
    let positions = || match n.has(8) {
        true => n.x(8).cast(DType::Int64).expand(words.shape()),
        false => {
            let int = |value| b.constant(Tensor::from_i64(&[], &[value]));
            let count = sizes(words, 1, None).squeeze(&[0]);
            b.op("Range", &[int(0), count, int(1)], &[]).expand(words.shape())
        }
    };
    let mut rows = vec![n.x(2).gather(words, 0), n.x(3).gather(positions(), 0)];
    if n.has(4) {
        rows.push(n.x(4).gather(types(), 0));
    }
    let attributes = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(n.node().float("epsilon", 1e-12)))];
    let (normal, inverse) = normalised(n, b.op("Sum", &rows, &[]), 5, &attributes);
    dx[5] = scale.then(|| over_rows(dy * normal));
    if tables {
        let mean = |value: Val<'b>| value.reduce_sum(&[-1], true) * (1.0 / hidden as f64);
        let ds = centred(dy * n.x(5), normal, inverse, mean);
        let ds = n.dy_if(2).map_or(ds, |above| ds + above).reshape_to(&[-1, hidden]);
        let at =
            |i: usize, rows: Val<'b>| added(n.zeros_like(n.x(i)), rows.reshape_to(&[-1, 1]).expand(ds.shape()), ds, 0);
        dx[2] = n.needs(2).then(|| at(2, words));
        dx[3] = n.needs(3).then(|| at(3, positions()));
        dx[4] = n.needs(4).then(|| at(4, types()));
    }
    Ok(dx)
}
