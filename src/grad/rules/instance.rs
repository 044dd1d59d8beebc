//! Normalisation of each sample by itself: over space, over groups of channels, by a length.

use super::elementwise::ratio;
use super::shape::{as_input, sizes};
use crate::grad::{At, Grads};
use crate::graph::Val;

/// y = γ · x̂ + β with x̂ = (x − μ) / σ, μ and σ of each channel over space  ⇒
/// dγ = Σ dy · x̂, dβ = Σ dy over batch and space, and with g = dy · γ: dx = (g − mean(g) − x̂ · mean(g · x̂)) / σ
pub fn instance<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    grouped(n, channels(n)?)
}

/// As [`instance`], with μ and σ over the channels of a group too.
pub fn group<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let groups = n.node().int("num_groups", 0);
    let channels = channels(n)?;
    if groups < 1 || channels % groups != 0 {
        return Err(format!("{channels} channels do not fit {groups} groups; the model is invalid"));
    }
    grouped(n, groups)
}

/// The number of channels: of x, or of γ.
fn channels(n: &At<'_, '_>) -> Result<i64, String> {
    n.fixed(0, 1).or_else(|e| if n.node().op == "InstanceNormalization" { n.fixed(1, 0) } else { Err(e) })
}

/// The gradients as [`instance`] says, with all values seen as `[batch, groups, channels of a group, space]`.
fn grouped<'b>(n: &At<'_, 'b>, groups: i64) -> Grads<'b> {
    let apart = channels(n)? / groups;
    let seen = |value: Val<'b>| value.reshape_to(&[0, groups, apart, -1]);
    let dy = seen(n.dy(0));
    let as_scale = |value: Val<'b>| value.reduce_sum(&[0, 3], false).reshape_to(&[-1]);
    let dbias = n.needs(2).then(|| as_scale(dy));
    if !n.needs(0) && !n.needs(1) {
        return Ok(vec![None, None, dbias]);
    }
    let x = seen(n.x(0));
    let share = share(n, apart, x)?;
    let mean = |value: Val<'b>| value.reduce_sum(&[2, 3], true) * share;
    let centered = x - mean(x);
    let deviation = (mean(centered * centered) + n.float("epsilon", 1e-5)).sqrt();
    let normal = centered / deviation;
    let dx = n.needs(0).then(|| {
        let g = dy * n.x(1).reshape_to(&[groups, apart, 1]);
        as_input(n, 0, (g - mean(g) - normal * mean(g * normal)) / deviation)
    });
    Ok(vec![dx, n.needs(1).then(|| as_scale(dy * normal)), dbias])
}

/// 1 / (elements of a group): a number where space is fixed, else found at run time.
fn share<'b>(n: &At<'_, 'b>, apart: i64, x: Val<'b>) -> Result<Val<'b>, String> {
    let fixed: Result<Vec<i64>, _> = (2..n.rank(0)?).map(|axis| n.fixed(0, axis)).collect();
    Ok(match fixed {
        Ok(space) => x.scalar_like(1.0 / (apart * space.iter().product::<i64>()) as f64),
        Err(_) => 1.0 / (sizes(x, 3, None).cast(x.dtype()) * apart as f64),
    })
}

/// y = x / ‖x‖ along an axis (0 where ‖x‖ = 0)  ⇒  dx = (dy − s · Σ dy · y) / ‖x‖ with s = y for the sum of squares,
/// s = sign x for the sum of sizes
pub fn lp<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let axis = [n.node().int("axis", -1)];
    let (x, y, dy) = (n.x(0), n.y(0), n.dy(0));
    let (length, slope) = match n.node().int("p", 2) {
        1 => (x.unary("Abs").reduce_sum(&axis, true), x.unary("Sign")),
        2 => ((x * x).reduce_sum(&axis, true).sqrt(), y),
        p => return Err(format!("p = {p} is neither 1 nor 2; the model is invalid")),
    };
    let inverse = ratio(x.scalar_like(1.0), length);
    Ok(vec![Some((dy - slope * (dy * y).reduce_sum(&axis, true)) * inverse)])
}

/// y = (Σ |x|ᵖ)^(1/p) over space  ⇒  dx = dy · sign x · (|x| / y)ᵖ⁻¹ (0 where y = 0)
pub fn global_lp_pool<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (x, y, p) = (n.x(0), n.y(0), n.node().int("p", 2));
    let share = |x: Val<'b>| ratio(x, y);
    let slope = match p {
        1 => x.unary("Sign"),
        2 => share(x),
        p => x.unary("Sign") * share(x.unary("Abs")).binary("Pow", x.scalar_like(p as f64 - 1.0)),
    };
    Ok(vec![Some(n.dy(0) * slope)])
}
