//! Normalisation.

use super::shape::sizes;
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Tensor, Val};

/// y = γ · x̂ + β with x̂ = (x − μ) / √(σ² + ε) and frozen μ, σ²  ⇒
/// dx = dy · γ / √(σ² + ε), dγ = Σ dy · x̂, dβ = Σ dy, both over batch and space
pub fn batch<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.node().int("training_mode", 0) != 0 {
        return Err("no gradient in training mode; export the model for inference (model.eval())".into());
    }
    if n.needs(3) || n.needs(4) {
        return Err("the mean and the variance are frozen; leave them out of --train".into());
    }
    let rank = n.rank(0)?;
    // A vector over channels, broadcastable to x.
    let column: Vec<i64> = std::iter::once(-1).chain(std::iter::repeat_n(1, rank.saturating_sub(2))).collect();
    let across = |value: Val<'b>| if rank > 2 { value.reshape_to(&column) } else { value };
    let others: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
    let deviation = (n.x(4) + f64::from(n.node().float("epsilon", 1e-5))).sqrt();
    let dy = n.dy(0);
    let dx = n.needs(0).then(|| dy * across(n.x(1) / deviation));
    let dscale = n.needs(1).then(|| (dy * (n.x(0) - across(n.x(3)))).reduce_sum(&others, false) / deviation);
    let dbias = n.needs(2).then(|| dy.reduce_sum(&others, false));
    Ok(vec![dx, dscale, dbias, None, None])
}

/// y = γ · x̂ + β with x̂ = (x − μ) / σ, μ and σ over the dimensions from `axis` on  ⇒
/// dγ = dy · x̂, dβ = dy (the walk sums both), and with g = dy · γ:
/// dx = (g − mean(g) − x̂ · mean(g · x̂)) / σ
///
/// x̂ and 1/σ come from a second `LayerNormalization` without γ and β: one fused kernel, where x̂ from y would divide by
/// a γ that may be 0.
pub fn layer<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.dy_if(1).is_some() || n.dy_if(2).is_some() {
        return Err("no gradient through its outputs Mean and InvStdDev; cut above the nodes that use them".into());
    }
    let rank = n.rank(0)?;
    let axis = n.axis(n.node().int("axis", -1), rank);
    let dy = n.dy(0);
    let dbias = n.needs(2).then_some(dy);
    if !n.needs(0) && !n.needs(1) {
        return Ok(vec![None, None, dbias][..n.inputs()].to_vec());
    }
    let attributes: Vec<(&str, Attr)> =
        n.node().attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let parts = n.builder().node("LayerNormalization", &[Some(n.x(0)), Some(ones_like(n, 1))], 3, &attributes);
    let (normal, inverse) = (parts[0], parts[2].cast(dy.dtype()));
    let dx = n.needs(0).then(|| {
        let g = dy * n.x(1);
        let axes: Vec<i64> = (axis..rank as i64).collect();
        let mean = |value: Val<'b>| averaged(n, value, &axes);
        (g - mean(g) - normal * mean(g * normal)) * inverse
    });
    let dscale = n.needs(1).then(|| dy * normal);
    Ok(vec![dx, dscale, dbias][..n.inputs()].to_vec())
}

/// The mean over `axes`, the last ones of input 0, kept with size 1.
fn averaged<'b>(n: &At<'_, 'b>, value: Val<'b>, axes: &[i64]) -> Val<'b> {
    let sum = value.reduce_sum(axes, true);
    let fixed: Result<Vec<i64>, _> = axes.iter().map(|axis| n.fixed(0, *axis as usize)).collect();
    match fixed {
        Ok(sizes) => sum * (1.0 / sizes.iter().product::<i64>() as f64),
        Err(_) => {
            let count = n.builder().op("ReduceProd", &[sizes(n.x(0), axes[0], None)], &[("keepdims", Attr::Int(0))]);
            sum / count.cast(value.dtype())
        }
    }
}

/// Ones in the shape of input `i`.
fn ones_like<'b>(n: &At<'_, 'b>, i: usize) -> Val<'b> {
    let x = n.x(i);
    match n.x_ty(i).and_then(|ty| ty.fixed_shape()) {
        Some(shape) if x.dtype() == DType::Float => {
            let count = shape.iter().product::<u64>() as usize;
            n.builder().constant(Tensor::from_f32(&shape, &vec![1.0; count]))
        }
        _ => x.scalar_like(1.0).expand(x.shape()),
    }
}
