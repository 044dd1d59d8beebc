//! Softmax and its logarithm, along one axis (opset 13 and later).

use crate::grad::{At, Grads};

/// y = e^x / Σ e^x  ⇒  dx = t − y · Σ t with t = dy · y
pub fn softmax<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let t = n.dy(0) * n.y(0);
    Ok(vec![Some(t - n.y(0) * t.reduce_sum(&[n.node().int("axis", -1)], true))])
}

/// y = x − ln Σ e^x  ⇒  dx = dy − e^y · Σ dy
pub fn log_softmax<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let sum = n.dy(0).reduce_sum(&[n.node().int("axis", -1)], true);
    Ok(vec![Some(n.dy(0) - n.y(0).exp() * sum)])
}
