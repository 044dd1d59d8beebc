//! Reductions. Below, ȳ and dȳ are y and dy with the reduced dimensions put back as size 1.

use super::elementwise::ratio;
use crate::grad::{At, Grads};
use crate::graph::{Attr, Val};

/// What a node reduces over.
enum Over<'b> {
    /// Every dimension: y has one element and broadcasts as it is.
    All,
    /// These axes.
    Axes(Vec<i64>),
    /// Axes that are computed at run time.
    AtRunTime(Val<'b>),
    /// No dimension: `noop_with_empty_axes` without axes.
    Nothing,
}

/// The axes come as an attribute before opset 18 (`ReduceSum`: 13), then as an input.
fn over<'b>(n: &At<'_, 'b>) -> Over<'b> {
    let axes = match n.constant_i64(1) {
        None if n.has(1) => return Over::AtRunTime(n.x(1)),
        None => n.node().ints("axes").map(<[i64]>::to_vec).unwrap_or_default(),
        Some(axes) => axes,
    };
    match axes.is_empty() {
        true if n.node().int("noop_with_empty_axes", 0) != 0 => Over::Nothing,
        true => Over::All,
        false => Over::Axes(axes),
    }
}

impl<'b> Over<'b> {
    /// y → ȳ
    fn put_back(&self, n: &At<'_, 'b>, y: Val<'b>) -> Val<'b> {
        match self {
            _ if n.node().int("keepdims", 1) != 0 => y,
            Over::All | Over::Nothing => y,
            Over::Axes(axes) => y.unsqueeze(axes),
            Over::AtRunTime(axes) => y.binary("Unsqueeze", *axes),
        }
    }

    /// Σ over the axes, the dimensions kept.
    fn sum(&self, value: Val<'b>) -> Val<'b> {
        let keep = [("keepdims", Attr::Int(1))];
        match self {
            Over::Nothing => value,
            Over::All => value.builder().op("ReduceSum", &[value], &keep),
            Over::Axes(axes) => value.reduce_sum(axes, true),
            Over::AtRunTime(axes) => value.builder().op("ReduceSum", &[value, *axes], &keep),
        }
    }

    /// How many elements of x become one of y: a number where the sizes are fixed, else found at run time.
    fn count(&self, n: &At<'_, 'b>) -> Val<'b> {
        let fixed = || -> Result<i64, String> {
            let rank = n.rank(0)?;
            match self {
                Over::Axes(axes) => axes.iter().map(|axis| n.fixed(0, n.axis(*axis, rank) as usize)).product(),
                Over::All => (0..rank).map(|axis| n.fixed(0, axis)).product(),
                _ => Err("known at run time only".into()),
            }
        };
        match fixed() {
            Ok(count) => n.builder().scalar(n.dtype(0), count as f64),
            Err(_) => (n.x(0).unary("Size") / n.y(0).unary("Size")).cast(n.dtype(0)),
        }
    }
}

/// Where nothing is reduced, only what is the identity then has a rule here: the specification is unclear on the others.
fn reduces<'b>(n: &At<'_, 'b>) -> Result<Over<'b>, String> {
    match over(n) {
        Over::Nothing => Err("it reduces nothing (noop_with_empty_axes); simplify the model first".into()),
        over => Ok(over),
    }
}

/// y = Σ x  ⇒  dx = dȳ, repeated
pub fn sum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(match over(n) {
        Over::Nothing => n.dy(0),
        over => over.put_back(n, n.dy(0)).expand(n.shape(0)),
    })])
}

/// y = Σ x / count  ⇒  dx = dȳ / count, repeated
pub fn mean<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(match over(n) {
        Over::Nothing => n.dy(0),
        over => (over.put_back(n, n.dy(0)) / over.count(n)).expand(n.shape(0)),
    })])
}

/// y = max x or min x  ⇒  dx = dȳ · [x = ȳ] / Σ [x = ȳ]
///
/// Elements that tie share the gradient evenly, as in PyTorch.
pub fn extremum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let over = over(n);
    if let Over::Nothing = over {
        return Ok(vec![Some(n.dy(0))]);
    }
    let picked = n.x(0).equal(over.put_back(n, n.y(0))).cast(n.dtype(0));
    let share = over.put_back(n, n.dy(0)) / over.sum(picked);
    Ok(vec![Some(picked * share)])
}

/// y = Π x  ⇒  dxᵢ = dȳ · Πⱼ xⱼ for j ≠ i
///
/// The product of the others is p / xᵢ, with zeros left out of p, where none of the others is 0: no division by 0.
pub fn product<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let (over, x) = (reduces(n)?, n.x(0));
    let zero = x.scalar_like(0.0);
    let is_zero = x.equal(zero);
    let filled = is_zero.select(x.scalar_like(1.0), x);
    // Written as the node itself is, whose axes are an attribute or an input.
    let inputs: Vec<Option<Val<'b>>> =
        std::iter::once(Some(filled)).chain(n.has(1).then(|| Some(n.x(1)))).take(n.inputs()).collect();
    let attributes: Vec<(&str, Attr)> =
        n.node().attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let product = n.builder().node("ReduceProd", &inputs, 1, &attributes)[0];
    let zeros = is_zero.cast(x.dtype());
    let others_nonzero = over.sum(zeros).equal(zeros).cast(x.dtype());
    Ok(vec![Some(over.put_back(n, n.dy(0) * product) / filled * others_nonzero)])
}

/// y = Σ |x|  ⇒  dx = dȳ · sign x
pub fn l1<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.x(0).unary("Sign") * reduces(n)?.put_back(n, n.dy(0)))])
}

/// y = √Σ x²  ⇒  dx = x · dȳ / ȳ (0 where y = 0)
pub fn l2<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.x(0) * reduces(n)?.put_back(n, ratio(n.dy(0), n.y(0))))])
}

/// y = ln Σ x  ⇒  dx = dȳ / e^ȳ, repeated (0 where Σ x = 0)
pub fn log_sum<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let share = ratio(n.dy(0), n.y(0).exp());
    Ok(vec![Some(reduces(n)?.put_back(n, share).expand(n.shape(0)))])
}

/// y = ln Σ eˣ  ⇒  dx = dȳ · e^(x − ȳ)
pub fn log_sum_exp<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let over = reduces(n)?;
    Ok(vec![Some(over.put_back(n, n.dy(0)) * (n.x(0) - over.put_back(n, n.y(0))).exp())])
}

/// y = Σ x²  ⇒  dx = 2 · x · dȳ
pub fn sum_square<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.x(0) * reduces(n)?.put_back(n, n.dy(0) * 2.0))])
}

/// yᵢ = Σ xⱼ for j ≤ i along an axis  ⇒  dxⱼ = Σ dyᵢ for i ≥ j: the same sum from the other end
pub fn cumulative<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let attributes = [
        ("exclusive", Attr::Int(n.node().int("exclusive", 0))),
        ("reverse", Attr::Int(1 - n.node().int("reverse", 0))),
    ];
    Ok(vec![Some(n.builder().op("CumSum", &[n.dy(0), n.x(1)], &attributes))])
}
