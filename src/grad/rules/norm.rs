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
        return Err("the mean and the variance are frozen; leave them out of setting `train`".into());
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
    no_gradient_of_statistics(n)?;
    let rank = n.rank(0)?;
    let axis = n.axis(n.node().int("axis", -1), rank);
    let dy = n.dy(0);
    let dbias = n.needs(2).then_some(dy);
    if !n.needs(0) && !n.needs(1) {
        return Ok(vec![None, None, dbias][..n.inputs()].to_vec());
    }
    let attributes: Vec<(&str, Attr)> =
        n.node().attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let (normal, inverse) = normalised(n, n.x(0), 1, &attributes);
    let axes: Vec<i64> = (axis..rank as i64).collect();
    let dx = n.needs(0).then(|| centred(dy * n.x(1), normal, inverse, |value| averaged(n, value, &axes)));
    let dscale = n.needs(1).then(|| dy * normal);
    Ok(vec![dx, dscale, dbias][..n.inputs()].to_vec())
}

/// s = x + skip + bias, y = γ · ŝ + β with ŝ = (s − μ) / σ over the last dimension  ⇒
/// dγ = dy · ŝ, dβ = dy, dx = dskip = dbias = ds as in [`layer`], and what comes from output 3, which is s
/// (`com.microsoft`)
pub fn skip_layer<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    no_gradient_of_statistics(n)?;
    let dy = n.dy(0);
    let dbeta = n.needs(3).then_some(dy);
    if ![0, 1, 2, 4].into_iter().any(|i| n.needs(i)) {
        return Ok(vec![None, None, None, dbeta, None][..n.inputs()].to_vec());
    }
    let last = n.rank(0)? as i64 - 1;
    let attributes = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(n.node().float("epsilon", SKIP_EPSILON)))];
    let (normal, inverse) = normalised(n, skipped(n, 4), 2, &attributes);
    let ds = [0, 1, 4].into_iter().any(|i| n.needs(i)).then(|| {
        let ds = centred(dy * n.x(2), normal, inverse, |value| averaged(n, value, &[last]));
        n.dy_if(3).map_or(ds, |above| ds + above)
    });
    let dscale = n.needs(2).then(|| dy * normal);
    Ok(vec![ds, ds, dscale, dbeta, ds][..n.inputs()].to_vec())
}

/// y = γ · x̂ with x̂ = x · r, r = 1/√(mean(x²) + ε) over the dimensions from `axis` on  ⇒
/// dγ = dy · x̂ (the walk sums it), and with g = dy · γ: dx = (g − x̂ · mean(g · x̂)) · r
pub fn root_mean_square<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    no_gradient_of_statistics(n)?;
    let rank = n.rank(0)?;
    let axis = n.axis(n.node().int("axis", -1), rank);
    let axes: Vec<i64> = (axis..rank as i64).collect();
    let (normal, inverse) = scaled(n, n.x(0), n.float("epsilon", 1e-5), &axes);
    let dx = n.needs(0).then(|| uncentred(n, n.dy(0) * n.x(1), normal, inverse, &axes));
    Ok(vec![dx, n.needs(1).then(|| n.dy(0) * normal)])
}

/// s = x + skip + bias, y = γ · s · r with r = 1/√(mean(s²) + ε) over the last dimension  ⇒
/// dγ = dy · s · r, dx = dskip = dbias = ds as in [`root_mean_square`], and what comes from output 3, which is s
/// (`com.microsoft`)
pub fn skip_root_mean_square<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    no_gradient_of_statistics(n)?;
    let axes = [n.rank(0)? as i64 - 1];
    let (normal, inverse) = scaled(n, skipped(n, 3), n.node().float("epsilon", SKIP_EPSILON).into(), &axes);
    let ds = [0, 1, 3].into_iter().any(|i| n.needs(i)).then(|| {
        let ds = uncentred(n, n.dy(0) * n.x(2), normal, inverse, &axes);
        n.dy_if(3).map_or(ds, |above| ds + above)
    });
    let dscale = n.needs(2).then(|| n.dy(0) * normal);
    Ok(vec![ds, ds, dscale, ds][..n.inputs()].to_vec())
}

/// What ONNX Runtime takes for `epsilon` where the fused nodes do not say it.
const SKIP_EPSILON: f32 = 1e-12;

fn no_gradient_of_statistics(n: &At<'_, '_>) -> Result<(), String> {
    match n.dy_if(1).is_some() || n.dy_if(2).is_some() {
        true => Err("no gradient through its outputs Mean and InvStdDev; cut above the nodes that use them".into()),
        false => Ok(()),
    }
}

/// Input 0 + input 1 + input `bias`: output 3 where the node has it.
///
/// A `Sum`: ONNX Runtime up to 1.28 fuses an `Add` with the `LayerNormalization` behind it and loses what the latter's
/// further outputs were read by.
fn skipped<'b>(n: &At<'_, 'b>, bias: usize) -> Val<'b> {
    if n.node().outputs.get(3).is_some_and(Option::is_some) {
        return n.y(3);
    }
    let parts: Vec<Val<'b>> = [0, 1, bias].into_iter().filter(|i| n.has(*i)).map(|i| n.x(i)).collect();
    n.builder().op("Sum", &parts, &[])
}

/// x̂ = (x − μ) / σ and 1/σ; input `scale` says over which dimensions' shape.
pub(super) fn normalised<'b>(
    n: &At<'_, 'b>,
    x: Val<'b>,
    scale: usize,
    attributes: &[(&str, Attr)],
) -> (Val<'b>, Val<'b>) {
    let parts = n.builder().node("LayerNormalization", &[Some(x), Some(ones_like(n, scale))], 3, attributes);
    (parts[0], parts[2].cast(x.dtype()))
}

/// (g − mean(g) − x̂ · mean(g · x̂)) / σ
pub(super) fn centred<'b>(g: Val<'b>, normal: Val<'b>, inverse: Val<'b>, mean: impl Fn(Val<'b>) -> Val<'b>) -> Val<'b> {
    (g - mean(g) - normal * mean(g * normal)) * inverse
}

/// x · r and r = 1/√(mean(x²) + ε)
fn scaled<'b>(n: &At<'_, 'b>, x: Val<'b>, epsilon: f64, axes: &[i64]) -> (Val<'b>, Val<'b>) {
    let inverse = (averaged(n, x * x, axes) + epsilon).sqrt().unary("Reciprocal");
    (x * inverse, inverse)
}

/// (g − x̂ · mean(g · x̂)) · r
fn uncentred<'b>(n: &At<'_, 'b>, g: Val<'b>, normal: Val<'b>, inverse: Val<'b>, axes: &[i64]) -> Val<'b> {
    (g - normal * averaged(n, g * normal, axes)) * inverse
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
