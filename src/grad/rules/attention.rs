//! Attention as one node, of `ai.onnx` and of `com.microsoft`. The gradient computes the probabilities again from
//! matrix products and a softmax: the node does not give them.

use super::shape::{joined as vector, sizes};
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Dim, Tensor, Val};

/// O = P·V with P = softmax(α·Q·Kᵀ + mask), of shapes (batch, heads, positions, size)  ⇒
/// dV = Pᵀ·dO, dQ = α·dS·K, dK = α·dSᵀ·Q with dS = T − P · Σ T over the keys, T = P · dP, dP = dO·Vᵀ
///
/// With a `cap` c other than 0 the scores z are bent to c · t, t = tanh(z / c), before the mask  ⇒  dz = dS · (1 − t²)
pub(super) fn gradients<'b>(
    [q, k, v]: [Val<'b>; 3],
    needed: [bool; 3],
    scale: f64,
    cap: f64,
    masked: impl FnOnce(Val<'b>) -> Val<'b>,
    dy: Val<'b>,
) -> [Option<Val<'b>>; 3] {
    let turned = |value: Val<'b>| value.transpose(&[0, 1, 3, 2]);
    let q = q * scale;
    let scores = q.matmul(turned(k));
    let bent = (cap != 0.0).then(|| (scores / cap).tanh());
    let scores = masked(bent.map_or(scores, |bent| bent * cap));
    let p = scores.builder().op("Softmax", &[scores], &[("axis", Attr::Int(-1))]);
    let dv = needed[2].then(|| turned(p).matmul(dy));
    if !needed[0] && !needed[1] {
        return [None, None, dv];
    }
    let t = p * dy.matmul(turned(v));
    let ds = t - p * t.reduce_sum(&[-1], true);
    let ds = bent.map_or(ds, |bent| ds * (1.0 - bent * bent));
    let dq = needed[0].then(|| ds.matmul(k) * scale);
    [dq, needed[1].then(|| turned(ds).matmul(q)), dv]
}

/// (batch, positions, heads · size) → (batch, heads, positions, size)
pub(super) fn split<'b>(value: Val<'b>, heads: i64) -> Val<'b> {
    value.reshape_to(&[0, 0, heads, -1]).transpose(&[0, 2, 1, 3])
}

/// (batch, heads, positions, size) → (batch, positions, heads · size = `width`)
pub(super) fn joined<'b>(value: Val<'b>, width: i64) -> Val<'b> {
    value.transpose(&[0, 2, 1, 3]).reshape_to(&[0, 0, width])
}

/// The scores where `mask` is true, else so little that the softmax gives 0.
fn where_true<'b>(mask: Val<'b>, scores: Val<'b>) -> Val<'b> {
    let lowest = if scores.dtype() == DType::Float16 { -65504.0 } else { f64::from(f32::MIN) };
    mask.select(scores, scores.scalar_like(lowest))
}

/// The scores of keys that do not come after their query.
pub(super) fn causal<'b>(scores: Val<'b>) -> Val<'b> {
    let one = Tensor { shape: vec![1], ..Tensor::float_scalar(DType::Float, 1.0) };
    let b = scores.builder();
    let all = b.op("ConstantOfShape", &[sizes(scores, -2, None)], &[("value", Attr::Tensor(one))]);
    let below = b.op("Trilu", &[all], &[("upper", Attr::Int(0))]);
    where_true(below.greater(below.scalar_like(0.0)), scores)
}

/// The factor of the scores: the attribute, or 1/√size where it is absent (or 0, which `com.microsoft` takes for absent).
pub(super) fn scale_of(n: &At<'_, '_>, size: Result<i64, String>) -> Result<f64, String> {
    match n.float("scale", 0.0) {
        0.0 => Ok(1.0 / (size? as f64).sqrt()),
        scale => Ok(scale),
    }
}

pub(super) fn no_gradient(what: &str) -> String {
    format!(
        "no gradient with {what}; export without attention fusion, or cut above it with a smaller setting `train = last:N`"
    )
}

/// Refuses what the node has beyond queries, keys, values and masks.
pub(super) fn plain(n: &At<'_, '_>, inputs: &[(usize, &str)], attributes: &[&str]) -> Result<(), String> {
    if let Some((_, name)) = inputs.iter().find(|(i, _)| n.has(*i)) {
        return Err(no_gradient(&format!("its input {name}")));
    }
    if let Some(name) = attributes.iter().find(|name| n.float(name, 0.0) != 0.0 || n.node().int(name, 0) != 0) {
        return Err(no_gradient(&format!("its attribute {name}")));
    }
    match (1..n.node().outputs.len()).any(|i| n.dy_if(i).is_some()) {
        true => Err(no_gradient("a loss on its further outputs")),
        false => Ok(()),
    }
}

/// How many heads queries and keys have: each a vector of one `i64`, at run time where the graph does not say it.
pub(super) struct Heads<'b> {
    queries: Val<'b>,
    keys: Val<'b>,
    /// Whether they are known to be as many.
    same: bool,
}

impl<'b> Heads<'b> {
    /// Known numbers.
    pub(super) fn known(n: &At<'_, 'b>, queries: i64, keys: i64) -> Result<Self, String> {
        if keys < 1 || queries % keys != 0 {
            return Err(format!("{queries} heads of queries do not share {keys} of keys evenly; the model is invalid"));
        }
        Ok(Self { queries: n.builder().ints(&[queries]), keys: n.builder().ints(&[keys]), same: queries == keys })
    }

    /// Keys or values (batch, heads, positions, size), each head as often as queries share it.
    pub(super) fn repeated(&self, value: Val<'b>) -> Val<'b> {
        if self.same {
            return value;
        }
        let b = value.builder();
        let shape = vector(&[b.ints(&[1, 1]), self.queries.binary("Div", self.keys), b.ints(&[1, 1])]);
        value.unsqueeze(&[2]).expand(shape).reshape(vector(&[b.ints(&[0]), self.queries, sizes(value, 2, None)]))
    }

    /// The gradient of what [`Heads::repeated`] made of `value`, summed over the queries' heads that share one.
    pub(super) fn summed(&self, gradient: Val<'b>, value: Val<'b>) -> Val<'b> {
        if self.same {
            return gradient;
        }
        let b = value.builder();
        let shape = vector(&[b.ints(&[0]), self.keys, b.ints(&[-1]), sizes(value, 2, None)]);
        gradient.reshape(shape).reduce_sum(&[2], false)
    }
}

/// The specification's `Attention` (opset 23), the formula above; several queries' heads may share one of keys and values
/// (grouped queries), whose gradients are then summed.
pub fn attention<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    plain(n, &[(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")], &["softcap"])?;
    if n.needs(3) {
        return Err("its mask is frozen; leave what it is computed from out of setting `train`".into());
    }
    let flat = n.rank(0)? == 3;
    let counts = [n.node().int("q_num_heads", 0), n.node().int("kv_num_heads", 0)];
    let heads = match (flat, n.fixed(0, 1), n.fixed(1, 1)) {
        (true, ..) => Heads::known(n, counts[0], counts[1])?,
        (false, Ok(queries), Ok(keys)) => Heads::known(n, queries, keys)?,
        _ => Heads { queries: sizes(n.x(0), 1, Some(2)), keys: sizes(n.x(1), 1, Some(2)), same: false },
    };
    let key_size = if flat { n.fixed(1, 2).map(|width| width / counts[1]) } else { n.fixed(1, 3) };
    let by_head = |value: Val<'b>, count: usize| if flat { split(value, counts[count]) } else { value };
    let masked = |scores: Val<'b>| {
        let scores = match (n.has(3), n.has(3) && n.dtype(3) == DType::Bool) {
            (_, true) => where_true(n.x(3), scores),
            (true, _) => scores + n.x(3),
            _ => scores,
        };
        if n.node().int("is_causal", 0) != 0 { causal(scores) } else { scores }
    };
    let (q, k, v, dy) = (by_head(n.x(0), 0), by_head(n.x(1), 1), n.x(2), by_head(n.dy(0), 0));
    // The values are read by the gradients of queries and keys, and for their shape where heads share them.
    let v = if n.needs(0) || n.needs(1) || !heads.same { by_head(v, 1) } else { v };
    let needed = [n.needs(0), n.needs(1), n.needs(2)];
    let parts = [q, heads.repeated(k), if needed[0] || needed[1] { heads.repeated(v) } else { v }];
    let [dq, dk, dv] = gradients(parts, needed, scale_of(n, key_size)?, 0.0, masked, dy);
    let as_given = |value: Val<'b>, i: usize| match flat {
        true => n.fixed(i, 2).map(|width| joined(value, width)),
        false => Ok(value),
    };
    Ok(vec![
        dq.map(|dq| as_given(dq, 0)).transpose()?,
        dk.map(|dk| as_given(heads.summed(dk, k), 1)).transpose()?,
        dv.map(|dv| as_given(heads.summed(dv, v), 2)).transpose()?,
    ])
}

/// What is added to the scores of `keys` (batch, keys, width): 0 where the node's input `i` keeps a key, else the attribute
/// `mask_filter_value`. The input is (batch) lengths, or 1 for what is kept in (batch, keys) or (batch, queries, keys).
fn padding<'b>(n: &At<'_, 'b>, i: usize, keys: Val<'b>) -> Result<Val<'b>, String> {
    let kept = match n.x_shape(i)? {
        [lengths] if lengths.same(&n.x_shape(0)?[0]) => {
            let (b, count) = (n.builder(), sizes(keys, 1, Some(2)).squeeze(&[0]));
            let int = |value| b.constant(Tensor::from_i64(&[], &[value]));
            let places = b.op("Range", &[int(0), count, int(1)], &[]);
            places.less(n.x(i).cast(DType::Int64).reshape_to(&[-1, 1, 1, 1]))
        }
        [_, _] => n.x(i).cast(DType::Bool).unsqueeze(&[1, 2]),
        [_, _, _] => n.x(i).cast(DType::Bool).unsqueeze(&[1]),
        other => {
            let shape: Vec<String> = other.iter().map(Dim::to_string).collect();
            return Err(no_gradient(&format!("a mask of shape [{}]", shape.join(", "))));
        }
    };
    let value = |value: f64| keys.scalar_like(value);
    Ok(kept.select(value(0.0), value(n.float("mask_filter_value", -10000.0))))
}

/// The formula above for flat queries, keys and values of these `widths` and as many heads; flat gradients. Input `mask`
/// says which keys are kept.
fn flat<'b>(
    n: &At<'_, 'b>,
    parts: [Val<'b>; 3],
    needed: [bool; 3],
    widths: [i64; 3],
    mask: usize,
) -> Result<[Option<Val<'b>>; 3], String> {
    let heads = n.node().int("num_heads", 1).max(1);
    let padding = if n.has(mask) { Some(padding(n, mask, parts[1])?) } else { None };
    let masked = |scores: Val<'b>| {
        let scores = if n.has(5) { scores + n.x(5) } else { scores };
        let scores = padding.map_or(scores, |padding| scores + padding);
        if n.node().int("unidirectional", 0) != 0 { causal(scores) } else { scores }
    };
    let [q, k, v] = parts;
    let v = if needed[0] || needed[1] { split(v, heads) } else { v };
    let parts = [split(q, heads), split(k, heads), v];
    let dx = gradients(parts, needed, scale_of(n, Ok(widths[0] / heads))?, 0.0, masked, split(n.dy(0), heads));
    let mut widths = widths.into_iter();
    Ok(dx.map(|dx| widths.next().and_then(|width| dx.map(|dx| joined(dx, width)))))
}

/// Q, K, V = its inputs + b, b in three parts  ⇒  the formula above, and db = dQ, dK, dV summed over batch and positions
/// (`com.microsoft`)
pub fn multi_head<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    plain(n, &[(6, "past_key"), (7, "past_value"), (9, "cache_indirection")], &[])?;
    if n.needs(5) {
        return Err("its attention_bias is frozen; leave what it is computed from out of setting `train`".into());
    }
    if !n.has(1) || !n.has(2) || n.rank(0)? != 3 || n.rank(1)? != 3 || n.rank(2)? != 3 {
        return Err(no_gradient("queries, keys and values packed or split by head"));
    }
    let widths = [n.fixed(0, 2)?, n.fixed(1, 2)?, n.fixed(2, 2)?];
    let starts = [0, widths[0]];
    let with_bias = |i: usize| match n.has(3) {
        true => n.x(i) + n.x(3).slice(&[starts[i]], &[starts[i] + widths[i]], &[0]),
        false => n.x(i),
    };
    let needed = [0, 1, 2].map(|i| n.needs(i) || n.needs(3));
    // The values' bias adds the same to all of a query's dP, which the softmax takes away again.
    let [dq, dk, dv] = flat(n, [with_bias(0), with_bias(1), n.x(2)], needed, widths, 4)?;
    let summed = |dx: Val<'b>| dx.reduce_sum(&[0, 1], false);
    let dbias = n.needs(3).then(|| {
        let parts: Vec<Val<'b>> = [dq, dk, dv].into_iter().flatten().map(summed).collect();
        n.builder().op("Concat", &parts, &[("axis", Attr::Int(0))])
    });
    Ok(vec![dq, dk, dv, dbias])
}

/// (Q | K | V) = x·W + b  ⇒  d(Q | K | V) by the formula above, dx = d(Q | K | V)·Wᵀ, dW = xᵀ·d(Q | K | V) and its sum
/// for b, both over batch and positions (`com.microsoft`)
pub fn with_projection<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    plain(n, &[(4, "past"), (6, "past_sequence_length")], &["do_rotary"])?;
    if n.needs(5) {
        return Err("its attention_bias is frozen; leave what it is computed from out of setting `train`".into());
    }
    let (inner, all) = (n.fixed(1, 0)?, n.fixed(1, 1)?);
    let widths = match n.node().ints("qkv_hidden_sizes") {
        Some(&[q, k, v]) => [q, k, v],
        _ => [all / 3; 3],
    };
    let product = n.x(0).matmul(n.x(1));
    let packed = if n.has(2) { product + n.x(2) } else { product };
    let [q, k, v] = widths;
    let part = |from: i64, to: i64| packed.slice(&[from], &[to], &[2]);
    let parts = flat(n, [part(0, q), part(q, q + k), part(q + k, q + k + v)], [true; 3], widths, 3)?;
    let parts: Vec<Val<'b>> = parts.into_iter().flatten().collect();
    let dpacked = n.builder().op("Concat", &parts, &[("axis", Attr::Int(2))]);
    let dx = n.needs(0).then(|| dpacked.matmul(n.x(1).transpose(&[1, 0])));
    let dw = n.needs(1).then(|| {
        let rows = |value: Val<'b>, width: i64| value.reshape_to(&[-1, width]);
        rows(n.x(0), inner).transpose(&[1, 0]).matmul(rows(dpacked, all))
    });
    let dbias = n.needs(2).then(|| dpacked.reduce_sum(&[0, 1], false));
    Ok(vec![dx, dw, dbias][..n.inputs().min(3)].to_vec())
}
