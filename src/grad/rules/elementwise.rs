//! Arithmetic and functions that work element by element. The walk sums broadcasts back.

use crate::grad::{At, Grads};
use crate::graph::Val;
use std::f64::consts::PI;

/// y = a + b  ⇒  da = dy, db = dy
pub fn add<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0)), Some(n.dy(0))])
}

/// y = a − b  ⇒  da = dy, db = −dy
pub fn sub<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0)), n.needs(1).then(|| -n.dy(0))])
}

/// y = a · b  ⇒  da = dy · b, db = dy · a
pub fn mul<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![n.needs(0).then(|| n.dy(0) * n.x(1)), n.needs(1).then(|| n.dy(0) * n.x(0))])
}

/// y = a / b  ⇒  da = dy / b, db = −da · y
pub fn div<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let da = n.dy(0) / n.x(1);
    Ok(vec![Some(da), n.needs(1).then(|| -da * n.y(0))])
}

/// y = a − b · trunc(a / b)  ⇒  da = dy, db = −dy · trunc(a / b) = dy · (y − a) / b
pub fn modulo<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.node().int("fmod", 0) == 0 {
        return Err("floats need fmod = 1; the model is invalid".into());
    }
    Ok(vec![Some(n.dy(0)), n.needs(1).then(|| n.dy(0) * ((n.y(0) - n.x(0)) / n.x(1)))])
}

/// y = −x  ⇒  dx = −dy
pub fn neg<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(-n.dy(0))])
}

/// y = aᵇ  ⇒  da = dy · b · aᵇ⁻¹ (0 where a = 0 and b < 1), db = dy · y · ln a (0 where a = 0)
///
/// No logarithm is taken unless the exponent learns: a may then be negative.
pub fn pow<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let a = n.x(0);
    let da = n.needs(0).then(|| match constant_exponent(n) {
        Some(b) => n.dy(0) * power_slope(n, b),
        None => {
            let b = n.x(1).cast(a.dtype());
            let slope = b * a.binary("Pow", b - 1.0);
            let vertical = a.equal(a.scalar_like(0.0)).binary("And", b.less(b.scalar_like(1.0)));
            n.dy(0) * vertical.select(a.scalar_like(0.0), slope)
        }
    });
    let db = n.needs(1).then(|| {
        let zero = a.scalar_like(0.0);
        let db = n.dy(0) * a.equal(zero).select(zero, n.y(0) * a.log());
        db.cast(n.dtype(1))
    });
    Ok(vec![da, db])
}

/// The exponent, if it is one number known before the run.
fn constant_exponent(n: &At<'_, '_>) -> Option<f64> {
    let exponent = n.constant(1).filter(|exponent| exponent.len() == 1)?;
    let integer = || Some(exponent.to_i64()?[0] as f64);
    exponent.to_f32().map(|values| f64::from(values[0])).or_else(integer)
}

/// b · aᵇ⁻¹ in the cheapest form.
fn power_slope<'b>(n: &At<'_, 'b>, b: f64) -> Val<'b> {
    let a = n.x(0);
    match b {
        0.0 => a.scalar_like(0.0),
        1.0 => a.scalar_like(1.0),
        2.0 => a * 2.0,
        3.0 => a * a * 3.0,
        0.5 => ratio(a.scalar_like(0.5), n.y(0)),
        -1.0 => -(n.y(0) * n.y(0)),
        b if b < 1.0 => {
            let slope = a.binary("Pow", a.scalar_like(b - 1.0)) * b;
            a.equal(a.scalar_like(0.0)).select(a.scalar_like(0.0), slope)
        }
        b => a.binary("Pow", a.scalar_like(b - 1.0)) * b,
    }
}

/// a / b, but 0 where b = 0: the slope where a function rises vertically.
///
/// A deviation of 0, as of a constant channel, reaches `Sqrt` with a zero behind it in the chain: ∞ · 0 would be NaN, and one NaN
/// ends a training. PyTorch's `std` gives 0 there, too.
pub(super) fn ratio<'b>(a: Val<'b>, b: Val<'b>) -> Val<'b> {
    let zero = b.scalar_like(0.0);
    b.equal(zero).select(zero, a / b)
}

/// a · b, but 0 where a = 0: nothing comes from above where a function was so steep that it left the range of its numbers.
///
/// A sigmoid that is written out, 1 / (1 + e⁻ˣ), is flat where e⁻ˣ is infinite; 0 · ∞ would be NaN.
pub(super) fn product<'b>(a: Val<'b>, b: Val<'b>) -> Val<'b> {
    let zero = a.scalar_like(0.0);
    a.equal(zero).select(zero, a * b)
}

/// y = √x  ⇒  dx = dy / 2y (0 where y = 0)
pub fn sqrt<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(n.dy(0) * 0.5, n.y(0)))])
}

/// y = eˣ  ⇒  dx = dy · y (0 where dy = 0)
pub fn exp<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(product(n.dy(0), n.y(0)))])
}

/// y = ln x  ⇒  dx = dy / x (0 where x = 0)
pub fn log<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(ratio(n.dy(0), n.x(0)))])
}

/// y = erf x  ⇒  dx = dy · 2/√π · e^(−x²)
pub fn erf<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let x = n.x(0);
    Ok(vec![Some(n.dy(0) * (-(x * x)).exp() * (2.0 / PI.sqrt()))])
}

/// y = |x|  ⇒  dx = dy · sign x
pub fn abs<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.x(0).unary("Sign"))])
}

/// y = 1 / x  ⇒  dx = −dy · y²
pub fn reciprocal<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(-n.dy(0) * (n.y(0) * n.y(0)))])
}

/// y = sin x  ⇒  dx = dy · cos x
pub fn sin<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * n.x(0).unary("Cos"))])
}

/// y = cos x  ⇒  dx = −dy · sin x
pub fn cos<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(-n.dy(0) * n.x(0).unary("Sin"))])
}

/// y = x  ⇒  dx = dy
pub fn identity<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0))])
}

/// y = x in another element type  ⇒  dx = dy in the type of x, or as it is where x is an integer that stands for a real
/// number: a sum of quantised products
pub fn cast<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let dy = n.dy(0);
    Ok(vec![Some(if n.dtype(0).is_float() { dy.cast(n.dtype(0)) } else { dy })])
}

/// y = x: in a model for inference nothing drops out  ⇒  dx = dy
pub fn dropout<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let off = !n.has(2) || n.constant(2).is_some_and(|mode| mode.data.iter().all(|byte| *byte == 0));
    if off {
        return Ok(vec![Some(n.dy(0))]);
    }
    Err("its training_mode is on or unknown; export the model for inference (model.eval())".into())
}

/// y = Σ xᵢ  ⇒  dxᵢ = dy
pub fn sum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0)); n.inputs()])
}

/// y = Σ xᵢ / count  ⇒  dxᵢ = dy / count
pub fn mean<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) * (1.0 / n.inputs() as f64)); n.inputs()])
}

/// y = max xᵢ or min xᵢ  ⇒  dxᵢ = dy · [xᵢ = y] / Σⱼ [xⱼ = y]
///
/// Inputs that tie share the gradient evenly, as in PyTorch.
pub fn extremum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (y, dy) = (n.y(0), n.dy(0));
    let picked: Vec<Val<'b>> = (0..n.inputs()).map(|i| n.x(i).equal(y).cast(y.dtype())).collect();
    let ties = picked.iter().copied().reduce(|sum, mask| sum + mask).ok_or("it has no input")?;
    let share = dy / ties;
    Ok(picked.into_iter().enumerate().map(|(i, mask)| n.needs(i).then(|| mask * share)).collect())
}

/// y = a where c, else b  ⇒  da = dy where c, else 0; db = 0 where c, else dy
pub fn select<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (c, dy) = (n.x(0), n.dy(0));
    let zero = dy.scalar_like(0.0);
    Ok(vec![None, n.needs(1).then(|| c.select(dy, zero)), n.needs(2).then(|| c.select(zero, dy))])
}
