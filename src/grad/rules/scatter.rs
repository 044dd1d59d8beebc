//! Operators that pick or place whole slices, and the largest elements.

use super::added::scattered;
use super::shape::positions;
use crate::grad::{At, Grads};
use crate::graph::{Attr, Val};

/// y\[j\] = x\[i(j)\] with i(j) a row of indices  ⇒  dx\[k\] = Σ over j with i(j) = k of dy\[j\]
///
/// The same node over the positions of x tells where each element came from.
pub fn gather_nd<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let batch = [("batch_dims", Attr::Int(n.node().int("batch_dims", 0)))];
    let from = n.builder().op("GatherND", &[positions(n.x(0)), n.x(1)], &batch);
    Ok(vec![Some(scattered(n.x(0), from, n.dy(0)))])
}

/// y = x with u at the indices  ⇒  dx = dy with 0 there, du = dy picked there; where u is added, dx = dy
pub fn scatter_nd<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let b = n.builder();
    let dx = match placed(n)? {
        _ if !n.needs(0) => None,
        Placed::Added => Some(n.dy(0)),
        Placed::Instead => Some(b.op("ScatterND", &[n.dy(0), n.x(1), n.zeros_like(n.x(2))], &[])),
    };
    Ok(vec![dx, None, n.needs(2).then(|| b.op("GatherND", &[n.dy(0), n.x(1)], &[]))])
}

/// y = x with u at the indices along an axis  ⇒  as [`scatter_nd`], element by element
pub fn scatter_elements<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let b = n.builder();
    let axis = [("axis", Attr::Int(n.node().int("axis", 0)))];
    let dx = match placed(n)? {
        _ if !n.needs(0) => None,
        Placed::Added => Some(n.dy(0)),
        Placed::Instead => Some(b.op("ScatterElements", &[n.dy(0), n.x(1), n.zeros_like(n.x(2))], &axis)),
    };
    Ok(vec![dx, None, n.needs(2).then(|| b.op("GatherElements", &[n.dy(0), n.x(1)], &axis))])
}

/// What a scatter does with the elements that are there already.
enum Placed {
    /// Replaces them.
    Instead,
    /// Adds to them.
    Added,
}

fn placed(n: &At<'_, '_>) -> Result<Placed, String> {
    match n.node().str("reduction", "none") {
        "none" => Ok(Placed::Instead),
        "add" => Ok(Placed::Added),
        other => {
            Err(format!("no gradient for reduction \"{other}\"; cut above it with a smaller setting `train = last:N`"))
        }
    }
}

/// y = the k largest (or smallest) of x, j where they were  ⇒  dx = dy at j, else 0
pub fn top_k<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let b = n.builder();
    let axis = n.node().int("axis", -1);
    let at: Val<'b> = match n.node().outputs.get(1).copied().flatten() {
        Some(indices) => b.val(indices),
        None => {
            let attributes: Vec<(&str, Attr)> =
                n.node().attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            b.node("TopK", &[Some(n.x(0)), Some(n.x(1))], 2, &attributes)[1]
        }
    };
    let inputs = [n.zeros_like(n.x(0)), at, n.dy(0)];
    Ok(vec![Some(b.op("ScatterElements", &inputs, &[("axis", Attr::Int(axis))]))])
}
