//! Values added up at indices, as gradients of whatever picks elements are.
//!
//! Gradients are added up by `ScatterElements`, never by `ScatterND`: ONNX Runtime's `ScatterND` adds from several
//! threads at once without a lock, so duplicate indices lose updates (onnxruntime#18048, #23396), and a run could not
//! be repeated bit for bit.

use crate::graph::{Attr, Val, ValueId};

/// Zeros like `x` to which each element of `updates` is added at its position in `at` (row-major, `i64`).
pub fn scattered<'b>(x: Val<'b>, at: Val<'b>, updates: Val<'b>) -> Val<'b> {
    let flat = |value: Val<'b>| value.reshape_to(&[-1]);
    let zeros = x.scalar_like(0.0).expand(x.unary("Size").unsqueeze(&[0]));
    added(zeros, flat(at), flat(updates), 0).reshape(x.shape())
}

/// The indices and values of which a gradient consists that is zero elsewhere, if it came through `GatherElements` along `axis`.
pub(super) fn picked<'b>(gradient: Val<'b>, axis: i64) -> Option<(Val<'b>, Val<'b>)> {
    let b = gradient.builder();
    let graph = b.graph();
    let writer = |id: ValueId| graph.nodes.iter().rev().find(|node| node.writes().any(|written| written == id));
    let node = writer(gradient.id()).filter(|node| node.op == "ScatterElements" && node.int("axis", 0) == axis)?;
    let [zeros, indices, values] = node.inputs[..] else { return None };
    writer(zeros?).filter(|node| node.op == "ConstantOfShape")?;
    Some((b.val(indices?), b.val(values?)))
}

/// `base` + `updates` at `indices` along `axis`; duplicates add up.
pub(super) fn added<'b>(base: Val<'b>, indices: Val<'b>, updates: Val<'b>, axis: i64) -> Val<'b> {
    let attributes = [("axis", Attr::Int(axis)), ("reduction", Attr::Str("add".into()))];
    base.builder().op("ScatterElements", &[base, indices, updates], &attributes)
}
