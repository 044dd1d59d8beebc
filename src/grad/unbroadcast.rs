//! Summing a gradient back over what the forward pass broadcast: the only place that does it.

use super::At;
use crate::graph::{Attr, DType, Dim, Val};

/// Brings the gradient of input `i`, computed in the broadcast shape, to the input's own shape. The last `trailing`
/// dimensions take no part in broadcasting (2 for `MatMul`) and are right already.
///
/// Decided before the run where both shapes say enough; where a dimension's name leaves it open, the axes are found at
/// run time.
pub fn to_input<'b>(at: &At<'_, 'b>, i: usize, gradient: Val<'b>, trailing: usize) -> Val<'b> {
    let x = at.x_ty(i).and_then(|ty| ty.shape.as_deref());
    let y = at.y_ty(0).and_then(|ty| ty.shape.as_deref());
    match (x, y) {
        (Some(x), Some(y)) => match summed_axes(x, y, trailing) {
            Some(axes) if axes.is_empty() => gradient,
            Some(axes) => sum_to(gradient, &axes, y.len() - x.len()),
            None => at_run_time(at.x(i), gradient),
        },
        _ => at_run_time(at.x(i), gradient),
    }
}

/// The axes of `y` that `x` was repeated along; `None` where names leave it open.
fn summed_axes(x: &[Dim], y: &[Dim], trailing: usize) -> Option<Vec<i64>> {
    if x.len() > y.len() && trailing > 0 {
        // The other operand of the product is a vector, which repeats nothing.
        return Some(vec![]);
    }
    let missing = y.len().checked_sub(x.len())?;
    let mut axes: Vec<i64> = (0..missing as i64).collect();
    for (index, dim) in x.iter().enumerate().take(x.len().saturating_sub(trailing)) {
        let out = &y[missing + index];
        match (dim, out) {
            (Dim::Fixed(1), Dim::Fixed(1)) => {}
            (Dim::Fixed(1), _) => axes.push((missing + index) as i64),
            (Dim::Fixed(_), _) => {}
            (dim, out) if dim.same(out) => {}
            _ => return None,
        }
    }
    Some(axes)
}

/// Sums `axes`, of which the first `missing` are not dimensions of the input at all.
fn sum_to<'b>(gradient: Val<'b>, axes: &[i64], missing: usize) -> Val<'b> {
    let (gone, kept): (Vec<i64>, Vec<i64>) = axes.iter().partition(|axis| **axis < missing as i64);
    let gradient = if kept.is_empty() { gradient } else { gradient.reduce_sum(&kept, true) };
    if gone.is_empty() { gradient } else { gradient.reduce_sum(&gone, false) }
}

/// Sums wherever the input's size is 1 and the gradient's is not, then takes the input's shape.
fn at_run_time<'b>(x: Val<'b>, gradient: Val<'b>) -> Val<'b> {
    let b = x.builder();
    let one = b.ints(&[1]);
    let (x_shape, g_shape) = (x.shape(), gradient.shape());
    // Ones in front, until both shapes have the gradient's rank.
    let missing = g_shape.shape() - x_shape.shape();
    let padded = b.op("Concat", &[one.expand(missing), x_shape], &[("axis", Attr::Int(0))]);
    let repeated = b.op("And", &[padded.equal(one), g_shape.equal(one).unary("Not")], &[]);
    let axes = repeated.unary("NonZero").reshape_to(&[-1]);
    let attributes = [("keepdims", Attr::Int(1)), ("noop_with_empty_axes", Attr::Int(1))];
    debug_assert_eq!(axes.dtype(), DType::Int64);
    b.op("ReduceSum", &[gradient, axes], &attributes).reshape(x_shape)
}
