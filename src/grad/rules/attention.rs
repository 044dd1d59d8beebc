//! Attention as one node, of `ai.onnx` and of `com.microsoft`. The gradient computes the probabilities again from
//! matrix products and a softmax: the node does not give them.

use super::shape::sizes;
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Tensor, Val};

/// O = P·V with P = softmax(α·Q·Kᵀ + mask), of shapes (batch, heads, positions, size)  ⇒
/// dV = Pᵀ·dO, dQ = α·dS·K, dK = α·dSᵀ·Q with dS = T − P · Σ T over the keys, T = P · dP, dP = dO·Vᵀ
fn gradients<'b>(
    [q, k, v]: [Val<'b>; 3],
    needed: [bool; 3],
    scale: f64,
    masked: impl FnOnce(Val<'b>) -> Val<'b>,
    dy: Val<'b>,
) -> [Option<Val<'b>>; 3] {
    let turned = |value: Val<'b>| value.transpose(&[0, 1, 3, 2]);
    let q = q * scale;
    let scores = masked(q.matmul(turned(k)));
    let p = scores.builder().op("Softmax", &[scores], &[("axis", Attr::Int(-1))]);
    let dv = needed[2].then(|| turned(p).matmul(dy));
    if !needed[0] && !needed[1] {
        return [None, None, dv];
    }
    let t = p * dy.matmul(turned(v));
    let ds = t - p * t.reduce_sum(&[-1], true);
    let dq = needed[0].then(|| ds.matmul(k) * scale);
    [dq, needed[1].then(|| turned(ds).matmul(q)), dv]
}

/// (batch, positions, heads · size) → (batch, heads, positions, size)
fn split<'b>(value: Val<'b>, heads: i64) -> Val<'b> {
    value.reshape_to(&[0, 0, heads, -1]).transpose(&[0, 2, 1, 3])
}

/// (batch, heads, positions, size) → (batch, positions, heads · size = `width`)
fn joined<'b>(value: Val<'b>, width: i64) -> Val<'b> {
    value.transpose(&[0, 2, 1, 3]).reshape_to(&[0, 0, width])
}

/// The scores where `mask` is true, else so little that the softmax gives 0.
fn where_true<'b>(mask: Val<'b>, scores: Val<'b>) -> Val<'b> {
    let lowest = if scores.dtype() == DType::Float16 { -65504.0 } else { f64::from(f32::MIN) };
    mask.select(scores, scores.scalar_like(lowest))
}

/// The scores of keys that do not come after their query.
fn causal<'b>(scores: Val<'b>) -> Val<'b> {
    let one = Tensor { shape: vec![1], ..Tensor::float_scalar(DType::Float, 1.0) };
    let b = scores.builder();
    let all = b.op("ConstantOfShape", &[sizes(scores, -2, None)], &[("value", Attr::Tensor(one))]);
    let below = b.op("Trilu", &[all], &[("upper", Attr::Int(0))]);
    where_true(below.greater(below.scalar_like(0.0)), scores)
}

/// The factor of the scores: the attribute, or 1/√size where it is absent (or 0, which `com.microsoft` takes for absent).
fn scale_of(n: &At<'_, '_>, size: i64) -> f64 {
    match n.float("scale", 0.0) {
        0.0 => 1.0 / (size as f64).sqrt(),
        scale => scale,
    }
}

fn no_gradient(what: &str) -> String {
    format!("no gradient with {what}; export without attention fusion, or cut above it with a smaller --train last:N")
}

/// Refuses what the node has beyond queries, keys, values and masks.
fn plain(n: &At<'_, '_>, inputs: &[(usize, &str)], attributes: &[&str]) -> Result<(), String> {
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

/// The specification's `Attention` (opset 23), the formula above; several queries' heads may share one of keys and values
/// (grouped queries), whose gradients are then summed.
pub fn attention<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    plain(n, &[(4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")], &["softcap"])?;
    if n.needs(3) {
        return Err("its mask is frozen; leave what it is computed from out of --train".into());
    }
    let flat = n.rank(0)? == 3;
    let heads = match flat {
        true => [n.node().int("q_num_heads", 0), n.node().int("kv_num_heads", 0)],
        false => [n.fixed(0, 1)?, n.fixed(1, 1)?],
    };
    let [queries, keys] = heads;
    if keys < 1 || queries % keys != 0 {
        return Err(format!("{queries} heads of queries do not share {keys} of keys evenly; the model is invalid"));
    }
    let group = queries / keys;
    let size = |i: usize| if flat { n.fixed(i, 2).map(|width| width / keys) } else { n.fixed(i, 3) };
    let (key_size, value_size) = (size(1)?, size(2)?);
    let by_head = |value: Val<'b>, heads: i64| if flat { split(value, heads) } else { value };
    let repeated = |value: Val<'b>, size: i64| match group {
        1 => value,
        _ => value.unsqueeze(&[2]).expand(n.builder().ints(&[1, 1, group, 1, 1])).reshape_to(&[0, queries, -1, size]),
    };
    let summed = |value: Val<'b>, size: i64| match group {
        1 => value,
        _ => value.reshape_to(&[0, keys, group, -1, size]).reduce_sum(&[2], false),
    };
    let masked = |scores: Val<'b>| {
        let scores = match (n.has(3), n.has(3) && n.dtype(3) == DType::Bool) {
            (_, true) => where_true(n.x(3), scores),
            (true, _) => scores + n.x(3),
            _ => scores,
        };
        if n.node().int("is_causal", 0) != 0 { causal(scores) } else { scores }
    };
    let (q, dy) = (by_head(n.x(0), queries), by_head(n.dy(0), queries));
    let k = repeated(by_head(n.x(1), keys), key_size);
    // Read by the gradients of queries and keys alone.
    let v = if n.needs(0) || n.needs(1) { repeated(by_head(n.x(2), keys), value_size) } else { n.x(2) };
    let needed = [n.needs(0), n.needs(1), n.needs(2)];
    let [dq, dk, dv] = gradients([q, k, v], needed, scale_of(n, key_size), masked, dy);
    let as_given = |value: Val<'b>, heads: i64, size: i64| if flat { joined(value, heads * size) } else { value };
    let dx = vec![
        dq.map(|dq| as_given(dq, queries, key_size)),
        dk.map(|dk| as_given(summed(dk, key_size), keys, key_size)),
        dv.map(|dv| as_given(summed(dv, value_size), keys, value_size)),
    ];
    Ok(dx)
}

/// The formula above for flat queries, keys and values of these `widths` and as many heads; flat gradients.
fn flat<'b>(n: &At<'_, 'b>, parts: [Val<'b>; 3], needed: [bool; 3], widths: [i64; 3]) -> [Option<Val<'b>>; 3] {
    let heads = n.node().int("num_heads", 1).max(1);
    let masked = |scores: Val<'b>| {
        let scores = if n.has(5) { scores + n.x(5) } else { scores };
        if n.node().int("unidirectional", 0) != 0 { causal(scores) } else { scores }
    };
    let [q, k, v] = parts;
    let v = if needed[0] || needed[1] { split(v, heads) } else { v };
    let parts = [split(q, heads), split(k, heads), v];
    let dx = gradients(parts, needed, scale_of(n, widths[0] / heads), masked, split(n.dy(0), heads));
    let mut widths = widths.into_iter();
    dx.map(|dx| widths.next().and_then(|width| dx.map(|dx| joined(dx, width))))
}

/// Q, K, V = its inputs + b, b in three parts  ⇒  the formula above, and db = dQ, dK, dV summed over batch and positions
/// (`com.microsoft`)
pub fn multi_head<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    plain(n, &[(4, "key_padding_mask"), (6, "past_key"), (7, "past_value"), (9, "cache_indirection")], &[])?;
    if n.needs(5) {
        return Err("its attention_bias is frozen; leave what it is computed from out of --train".into());
    }
    if !n.has(1) || !n.has(2) || n.rank(0)? != 3 || n.rank(1)? != 3 || n.rank(2)? != 3 {
        return Err(no_gradient("queries, keys and values packed or split by head"));
    }
    let widths = [n.fixed(0, 2)?, n.fixed(1, 2)?, n.fixed(2, 2)?];
    let starts = [0, widths[0], widths[0] + widths[1]];
    let with_bias = |i: usize| match n.has(3) {
        true => n.x(i) + n.x(3).slice(&[starts[i]], &[starts[i] + widths[i]], &[0]),
        false => n.x(i),
    };
    let needed = [0, 1, 2].map(|i| n.needs(i) || n.needs(3));
    // Values that no gradient needs would be added in vain.
    let v = if needed[0] || needed[1] { with_bias(2) } else { n.x(2) };
    let [dq, dk, dv] = flat(n, [with_bias(0), with_bias(1), v], needed, widths);
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
    plain(n, &[(3, "mask_index"), (4, "past"), (6, "past_sequence_length")], &["do_rotary"])?;
    if n.needs(5) {
        return Err("its attention_bias is frozen; leave what it is computed from out of --train".into());
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
    let parts = flat(n, [part(0, q), part(q, q + k), part(q + k, q + k + v)], [true; 3], widths);
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
