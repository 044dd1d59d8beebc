//! Softmax and its logarithm, along one axis (opset 13 and later).

use super::added::{added, picked};
use crate::grad::{At, Grads};

/// y = e^x / Σ e^x  ⇒  dx = t − y · Σ t with t = dy · y
pub fn softmax<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let t = n.dy(0) * n.y(0);
    Ok(vec![Some(t - n.y(0) * t.reduce_sum(&[n.node().int("axis", -1)], true))])
}

/// y = x − ln Σ e^x  ⇒  dx = dy − e^y · Σ dy
///
/// A dy of picked elements alone (the loss of a label) is never made: over a vocabulary it would be most of the memory.
pub fn log_softmax<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let axis = n.node().int("axis", -1);
    let dx = match picked(n.dy(0), axis) {
        Some((indices, values)) => added(-(n.y(0).exp() * values.reduce_sum(&[axis], true)), indices, values, axis),
        None => n.dy(0) - n.y(0).exp() * n.dy(0).reduce_sum(&[axis], true),
    };
    Ok(vec![Some(dx)])
}
