//! Quantised arithmetic.
//!
//! The gradient is the straight-through estimator (Bengio, Léonard and Courville, arXiv 1308.3432) of simulated
//! quantisation (Jacob et al., arXiv 1712.05877, section 3.1), which is also PyTorch's for `FakeQuantize`: rounding counts as
//! the identity, and where a value was clipped nothing passes. Scales and zero points count as constants, also where they
//! were computed from the values.
//!
//! An integer q stands for the real number s·(q − z), and its gradient is that with respect to q, a float.

use super::linear;
use super::window::{fixed_shape, input_gradient, windows};
use crate::grad::{At, Grads};
use crate::graph::{Attr, Builder, DType, Dim, Val};

/// The domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// `DequantizeLinear`: s·(q − z), with a scale for all or for each index along `axis`.
pub fn dequantised<'b>(
    b: &'b Builder,
    domain: &str,
    q: Val<'b>,
    scale: Val<'b>,
    zero: Option<Val<'b>>,
    axis: i64,
) -> Val<'b> {
    b.node_of(domain, "DequantizeLinear", &[Some(q), Some(scale), zero], 1, &[("axis", Attr::Int(axis))])[0]
}

/// y = clip(round(x / s) + z)  ⇒  dx = dy / s where x / s + z rounds to what the type holds, else 0
pub fn quantize<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let scale = along_axis(n, 1)?;
    let dtype = n.y_ty(0).map_or(DType::Uint8, |ty| ty.dtype);
    let (lowest, highest) = range(dtype).ok_or_else(|| {
        format!("no gradient through {dtype}; quantise the model to integers of 4, 8 or 16 bits instead")
    })?;
    let x = n.x(0);
    let ratio = x / scale;
    let place = if n.has(2) { ratio + along_axis(n, 2)?.cast(x.dtype()) } else { ratio };
    let within =
        place.greater(place.scalar_like(lowest - 0.5)).binary("And", place.less(place.scalar_like(highest + 0.5)));
    let dx = n.dy(0).cast(x.dtype()) / scale;
    Ok(vec![Some(within.select(dx, dx.scalar_like(0.0)))])
}

/// The smallest and the largest number of an integer type that values are quantised to.
fn range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::Uint4 => (0.0, 15.0),
        DType::Int4 => (-8.0, 7.0),
        DType::Uint8 => (0.0, 255.0),
        DType::Int8 => (-128.0, 127.0),
        DType::Uint16 => (0.0, 65535.0),
        DType::Int16 => (-32768.0, 32767.0),
        _ => return None,
    })
}

/// y = s·(x − z)  ⇒  dx = dy · s
pub fn dequantize<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.needs(1) {
        return Err("scales are frozen; leave them out of setting `train`".into());
    }
    let scale = along_axis(n, 1)?;
    Ok(vec![Some(n.dy(0) * scale.cast(n.dy(0).dtype()))])
}

/// Input `i`, a scale or zero point, in a shape that broadcasts over input 0: a number, or one for each index along
/// `axis`.
fn along_axis<'b>(n: &At<'_, 'b>, i: usize) -> Result<Val<'b>, String> {
    if n.node().int("block_size", 0) != 0 {
        return Err("no gradient through activations that are quantised block by block; quantise them with one scale \
                    for all or for each channel"
            .into());
    }
    let value = n.x(i);
    match n.x_shape(i)? {
        [] => Ok(value),
        [Dim::Fixed(1)] => Ok(value.squeeze(&[0])),
        [_] => {
            let rank = n.rank(0)?;
            let axis = n.axis(n.node().int("axis", 1), rank) as usize;
            let after = rank.checked_sub(axis + 1).ok_or("its axis is beyond its input; the model is invalid")?;
            let shape: Vec<i64> = std::iter::once(-1).chain(std::iter::repeat_n(1, after)).collect();
            Ok(if after == 0 { value } else { value.reshape_to(&shape) })
        }
        _ => Err("its scale has more than one dimension; the model is invalid".into()),
    }
}

/// y = round(x / s) + z with s = (max(x, 0) − min(x, 0)) / 255 and z such that nothing is clipped  ⇒  dx = dy / s
pub fn dynamic<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0) / n.y(1))])
}

/// y = (A − a)·(B − b)  ⇒  dA = dy·(B − b)ᵀ, dB = (A − a)ᵀ·dy
pub fn matmul_integer<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let one = n.builder().scalar(DType::Float, 1.0);
    let da = n.needs(0).then(|| with_transposed(n, n.dy(0), 1, one, zero_point(n, 3))).transpose()?;
    let db = n.needs(1).then(|| transposed_with(n, 0, one, zero_point(n, 2))).transpose()?;
    let mut gradients = vec![da, db];
    gradients.truncate(n.inputs());
    Ok(gradients)
}

/// y = s·t·(A − a)·(B − b) + c  ⇒  dA = s·dy·(t·(B − b))ᵀ, dc = dy summed to c's shape (`com.microsoft`)
pub fn matmul_integer_to_float<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.needs(1) {
        return Err("no gradient for its second operand; export the model without graph optimisation".into());
    }
    let mut gradients = vec![None; n.inputs()];
    if n.needs(0) {
        if n.rank(2)? > 0 && n.x_shape(2)? != [Dim::Fixed(1)] {
            return Err("no gradient with a scale for each row; export the model without graph optimisation".into());
        }
        gradients[0] = Some(with_transposed(n, n.dy(0), 1, n.x(3), zero_point(n, 5))? * n.x(2));
    }
    if n.needs(6) {
        gradients[6] = Some(n.sum_to_input(6, n.dy(0), 0));
    }
    Ok(gradients)
}

/// y = q(x)·(t·(B − b)) + c with q as [`dynamic`] and back  ⇒  dx = dy·(t·(B − b))ᵀ, dc = dy summed to c's shape
/// (`com.microsoft`)
pub fn dynamic_matmul<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let mut gradients = vec![None; n.inputs()];
    if n.needs(0) {
        gradients[0] = Some(with_transposed(n, n.dy(0), 1, n.x(2), zero_point(n, 3))?);
    }
    if n.needs(4) {
        gradients[4] = Some(n.sum_to_input(4, n.dy(0), 0));
    }
    Ok(gradients)
}

/// y = (x − a) ∗ (W − b)  ⇒  dx = dy ∗ᵀ (W − b)
pub fn conv_integer<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.needs(1) {
        return Err("no gradient for its weights; start from the float model to train them".into());
    }
    let shape = fixed_shape(n, 1)?;
    let group = n.node().int("group", 1);
    let one = n.builder().scalar(DType::Float, 1.0);
    let weight = factors(n, 1, one, zero_point(n, 3), 0)?;
    let windows = windows(n, shape.get(2..).unwrap_or_default())?;
    Ok(vec![Some(input_gradient(n, n.dy(0), (weight, &shape), group, &windows)?)])
}

/// Input `i`, a zero point, where it is there.
fn zero_point<'b>(n: &At<'_, 'b>, i: usize) -> Option<Val<'b>> {
    n.has(i).then(|| n.x_again(i))
}

/// scale·(input `i` − zero): `scale` and `zero` are numbers or have one for each index along `axis`.
fn factors<'b>(n: &At<'_, 'b>, i: usize, scale: Val<'b>, zero: Option<Val<'b>>, axis: i64) -> Result<Val<'b>, String> {
    let b = n.builder();
    let sizes = |value: Val<'b>| value.ty().and_then(|ty| ty.fixed_shape());
    let single = |value: Val<'b>| sizes(value).is_some_and(|shape| shape.iter().product::<u64>() == 1);
    let number = |value: Val<'b>| match sizes(value).as_deref() {
        Some([]) => value,
        _ => value.reshape_to(&[]),
    };
    match zero {
        None if single(scale) => Ok(dequantised(b, "", n.x_again(i), number(scale), None, axis)),
        None => Ok(dequantised(b, "", n.x_again(i), scale, None, axis)),
        Some(zero) if single(zero) && single(scale) => {
            Ok(dequantised(b, "", n.x_again(i), number(scale), Some(number(zero)), axis))
        }
        // `DequantizeLinear` wants both of one shape.
        Some(zero) => {
            let count = n.fixed(i, n.axis(axis, n.rank(i)?) as usize)?;
            let each = |value: Val<'b>| match single(value) {
                true => number(value).expand(b.ints(&[count])),
                false => value,
            };
            Ok(dequantised(b, "", n.x_again(i), each(scale), Some(each(zero)), axis))
        }
    }
}

/// dy·(scale·(input `i` − zero))ᵀ, in the shape of input 0.
fn with_transposed<'b>(
    n: &At<'_, 'b>,
    dy: Val<'b>,
    i: usize,
    scale: Val<'b>,
    zero: Option<Val<'b>>,
) -> Result<Val<'b>, String> {
    let (rank, other) = (n.rank(0)?, n.rank(i)?);
    if rank < 2 || other < 2 {
        return Err("no gradient where an operand is a vector; export the model with matrices".into());
    }
    let factors = factors(n, i, scale, zero, other as i64 - 1)?;
    if other > 2 {
        return Ok(n.sum_to_input(0, dy.matmul(linear::swapped(factors, other)), 2));
    }
    if rank == 2 {
        return Ok(linear::product(dy, false, factors, true, 1.0));
    }
    // One product over all rows: the transpose is then taken without a copy.
    let rows = linear::product(dy.reshape_to(&[-1, n.fixed(i, 1)?]), false, factors, true, 1.0);
    Ok(rows.reshape(n.shape(0)))
}

/// (scale·(input `i` − zero))ᵀ·dy, summed to the shape of input 1.
fn transposed_with<'b>(n: &At<'_, 'b>, i: usize, scale: Val<'b>, zero: Option<Val<'b>>) -> Result<Val<'b>, String> {
    let rank = n.rank(i)?;
    if rank < 2 || n.rank(1)? < 2 {
        return Err("no gradient where an operand is a vector; export the model with matrices".into());
    }
    let factors = factors(n, i, scale, zero, rank as i64 - 2)?;
    Ok(n.sum_to_input(1, linear::swapped(factors, rank).matmul(n.dy(0)), 2))
}
