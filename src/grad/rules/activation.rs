//! Activations. At a kink the derivative of one side is taken, the same side as PyTorch's.

use crate::grad::{At, Grads};
use crate::graph::Val;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// dy · `above` where x > 0, `below` elsewhere.
fn two_sided<'b>(n: &At<'_, 'b>, above: Val<'b>, below: Val<'b>) -> Grads<'b> {
    let x = n.x(0);
    Ok(vec![Some(x.greater(x.scalar_like(0.0)).select(above, below))])
}

/// `value` where `mask` is true, 0 elsewhere.
///
/// A product, because ONNX Runtime's `Where` branches: where the mask is irregular it takes up to five times as long (5.4
/// against 1.0 ms for the gradient of a ReLU6 of 1152 channels of 7×7 with batch 16), else about the same.
fn kept<'b>(mask: Val<'b>, value: Val<'b>) -> Val<'b> {
    value * mask.cast(value.dtype())
}

/// y = max(x, 0)  ⇒  dx = dy where y > 0, else 0
pub fn relu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(kept(n.y(0).greater(n.y(0).scalar_like(0.0)), n.dy(0)))])
}

/// y = x where x > 0, else α · x  ⇒  dx = dy where x > 0, else α · dy
pub fn leaky_relu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    two_sided(n, n.dy(0), n.dy(0) * n.float("alpha", 0.01))
}

/// y = x where x > 0, else s · x  ⇒  dx = dy where x > 0, else s · dy; ds = 0 where x > 0, else x · dy
pub fn prelu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (x, slope, dy) = (n.x(0), n.x(1), n.dy(0));
    let zero = x.scalar_like(0.0);
    let positive = x.greater(zero);
    let dx = n.needs(0).then(|| positive.select(dy, dy * slope));
    let ds = n.needs(1).then(|| positive.select(zero, dy * x));
    Ok(vec![dx, ds])
}

/// y = x where x > α, else 0  ⇒  dx = dy where x > α, else 0
pub fn thresholded_relu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let x = n.x(0);
    let above = x.greater(x.scalar_like(n.float("alpha", 1.0)));
    Ok(vec![Some(kept(above, n.dy(0)))])
}

/// y = min(max(x, l), h)  ⇒  dx = dy where l < y < h, else 0; dl = Σ dy where x < l; dh = Σ dy where x > h
pub fn clip<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let dx = n.needs(0).then(|| {
        let above = n.has(1).then(|| n.y(0).greater(n.x(1)));
        let below = n.has(2).then(|| n.y(0).less(n.x(2)));
        let inside = match (above, below) {
            (Some(above), Some(below)) => Some(above.binary("And", below)),
            (one, other) => one.or(other),
        };
        inside.map_or(n.dy(0), |inside| kept(inside, n.dy(0)))
    });
    let dl = n.needs(1).then(|| kept(n.x(0).less(n.x(1)), n.dy(0)).sum_all());
    let dh = n.needs(2).then(|| kept(n.x(0).greater(n.x(2)), n.dy(0)).sum_all());
    Ok(vec![dx, dl, dh])
}

/// y = σ(x)  ⇒  dx = dy · y · (1 − y)
pub fn sigmoid<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.y(0) * (1.0 - n.y(0)))])
}

/// y = min(max(α · x + β, 0), 1)  ⇒  dx = α · dy where 0 < y < 1, else 0
pub fn hard_sigmoid<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (y, dy) = (n.y(0), n.dy(0));
    let zero = y.scalar_like(0.0);
    let inside = y.greater(zero).binary("And", y.less(y.scalar_like(1.0)));
    Ok(vec![Some(kept(inside, dy) * n.float("alpha", 0.2))])
}

/// y = x · min(max(x/6 + ½, 0), 1)  ⇒  dx = 0 where x < −3, dy where x > 3, else dy · (x/3 + ½)
pub fn hard_swish<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (x, dy) = (n.x(0), n.dy(0));
    let beyond = x.greater(x.scalar_like(3.0));
    let curved = x.greater(x.scalar_like(-3.0)).binary("And", beyond.unary("Not"));
    Ok(vec![Some(dy * (kept(curved, x * (1.0 / 3.0) + 0.5) + beyond.cast(dy.dtype())))])
}

/// y = tanh x  ⇒  dx = dy · (1 − y²)
pub fn tanh<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * (1.0 - n.y(0) * n.y(0)))])
}

/// y = x · Φ(x), or its approximation by tanh as the attribute says
pub fn gelu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    match n.node().str("approximate", "none") {
        "none" => Ok(vec![Some(n.dy(0) * gelu_slope(n.x(0)))]),
        "tanh" => Ok(vec![Some(n.dy(0) * gelu_tanh_slope(n.x(0)))]),
        other => Err(format!("approximation `{other}` is unknown; export with `none` or `tanh`")),
    }
}

/// y = (x + b) · Φ(x + b)  ⇒  dx = db = dy · y′ (`com.microsoft`)
pub fn bias_gelu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let dx = n.dy(0) * gelu_slope(n.x(0) + n.x(1));
    Ok(vec![Some(dx); 2])
}

/// The approximation by tanh of x or x + b (`com.microsoft`)
pub fn fast_gelu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let x = if n.has(1) { n.x(0) + n.x(1) } else { n.x(0) };
    let dx = n.dy(0) * gelu_tanh_slope(x);
    Ok(vec![Some(dx); n.inputs()])
}

/// y = x · σ(α · x), α = 1.702 unless the attribute says otherwise (`com.microsoft`)
pub fn quick_gelu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    gated_by_itself(n, n.float("alpha", 1.702))
}

/// y = x · σ(α · x), α = 1 unless the attribute says otherwise
pub fn swish<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    gated_by_itself(n, n.float("alpha", 1.0))
}

/// y = x · s, s = σ(α · x)  ⇒  dx = dy · (s + α · y · (1 − s))
fn gated_by_itself<'b>(n: &At<'_, 'b>, alpha: f64) -> Grads<'b> {
    let s = (n.x(0) * alpha).sigmoid();
    Ok(vec![Some(n.dy(0) * (s + n.y(0) * (1.0 - s) * alpha))])
}

/// (x · Φ(x))′ = Φ(x) + x · φ(x) with Φ(x) = ½ (1 + erf(x/√2)), φ(x) = e^(−x²/2) / √2π
fn gelu_slope<'b>(x: Val<'b>) -> Val<'b> {
    let cumulative = (x * FRAC_1_SQRT_2).unary("Erf") * 0.5 + 0.5;
    let density = (x * x * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
    cumulative + x * density
}

/// (½ x (1 + t))′ = ½ (1 + t + x · (1 − t²) · u′) with t = tanh u, u = √(2/π) · (x + 0.044715 x³)
fn gelu_tanh_slope<'b>(x: Val<'b>) -> Val<'b> {
    const CUBIC: f64 = 0.044715;
    let scale = (2.0 / PI).sqrt();
    let square = x * x;
    let t = (x * (square * (CUBIC * scale) + scale)).tanh();
    let u_slope = square * (3.0 * CUBIC * scale) + scale;
    (t + 1.0 + x * (1.0 - t * t) * u_slope) * 0.5
}

/// y = ln(1 + eˣ)  ⇒  dx = dy · σ(x)
pub fn softplus<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.x(0).sigmoid())])
}

/// y = x / (1 + |x|)  ⇒  dx = dy / (1 + |x|)²
pub fn softsign<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let below = n.x(0).unary("Abs") + 1.0;
    Ok(vec![Some(n.dy(0) / (below * below))])
}

/// y = x where x > 0, else α (eˣ − 1)  ⇒  dx = dy where x > 0, else dy · (y + α)
pub fn elu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    two_sided(n, n.dy(0), n.dy(0) * (n.y(0) + n.float("alpha", 1.0)))
}

/// y = γ x where x > 0, else γ α (eˣ − 1)  ⇒  dx = γ · dy where x > 0, else dy · (y + γ α)
pub fn selu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (alpha, gamma) = (n.float("alpha", 1.673_263_2), n.float("gamma", 1.050_701));
    two_sided(n, n.dy(0) * gamma, n.dy(0) * (n.y(0) + gamma * alpha))
}

/// y = x where x > 0, else α (e^(x/α) − 1)  ⇒  dx = dy where x > 0, else dy · (y/α + 1)
pub fn celu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    two_sided(n, n.dy(0), n.dy(0) * (n.y(0) * (1.0 / n.float("alpha", 1.0)) + 1.0))
}

/// y = x · t, t = tanh(ln(1 + eˣ))  ⇒  dx = dy · (t + x · (1 − t²) · σ(x))
pub fn mish<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let x = n.x(0);
    let t = x.unary("Softplus").tanh();
    Ok(vec![Some(n.dy(0) * (t + x * (1.0 - t * t) * x.sigmoid()))])
}
