//! Operators that pick elements by index.

use super::added::added;
use super::shape::{Border, bordered, joined, sizes};
use crate::grad::{At, Grads};
use crate::graph::Val;

/// y\[…, j, …\] = x\[…, i(j), …\]  ⇒  dx\[…, k, …\] = Σ over j with i(j) = k of dy\[…, j, …\]
///
/// One constant index (a class token) becomes a `Pad`.
pub fn gather<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let rank = n.rank(0)?;
    let axis = n.axis(n.node().int("axis", 0), rank);
    if let Some([index]) = n.constant_i64(1).as_deref() {
        return Ok(vec![Some(one_picked(n, rank, axis, *index)?)]);
    }
    let b = n.builder();
    // dy with the indices' dimensions as one, and the indices repeated to its shape.
    let dy = match n.rank(1) {
        Ok(1) => n.dy(0),
        _ => {
            let x = n.x(0);
            let parts = [sizes(x, 0, Some(axis)), b.ints(&[-1]), sizes(x, axis + 1, None)];
            n.dy(0).reshape(joined(&parts))
        }
    };
    let mut column = vec![1; rank - axis as usize];
    column[0] = -1;
    let indices = n.x(1).reshape_to(&column).expand(dy.shape());
    Ok(vec![Some(added(n.zeros_like(n.x(0)), indices, dy, axis))])
}

/// [`gather`] of one constant index: dy between zeros.
fn one_picked<'b>(n: &At<'_, 'b>, rank: usize, axis: i64, index: i64) -> Result<Val<'b>, String> {
    let dy = match n.rank(1)? {
        0 => n.dy(0).unsqueeze(&[axis]),
        1 => n.dy(0),
        more => n.dy(0).squeeze(&(axis..axis + more as i64 - 1).collect::<Vec<_>>()),
    };
    let mut front = vec![Border::Known(0); rank];
    let mut back = front.clone();
    let at = axis as usize;
    (front[at], back[at]) = match n.fixed(0, at) {
        Ok(size) => {
            let index = if index < 0 { index + size } else { index };
            (Border::Known(index), Border::Known(size - 1 - index))
        }
        Err(_) => {
            let size = sizes(n.x(0), axis, Some(axis + 1));
            let rest = |less: i64| Border::AtRunTime(size - n.builder().ints(&[less]));
            if index < 0 { (rest(-index), Border::Known(-index - 1)) } else { (Border::Known(index), rest(index + 1)) }
        }
    };
    Ok(bordered(dy, &front, &back))
}

/// y\[j\] = x\[…, i(j), …\]  ⇒  dx = dy added up at i
pub fn gather_elements<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let axis = n.node().int("axis", 0);
    Ok(vec![Some(added(n.zeros_like(n.x(0)), n.x(1), n.dy(0), axis))])
}
