//! Rotary position embedding, of `ai.onnx` and of `com.microsoft`.

use super::shape::{as_input, sizes};
use crate::grad::{At, Grads};
use crate::graph::{Attr, Tensor, Val};

/// (y₁, y₂) = (x₁ · cos − x₂ · sin, x₂ · cos + x₁ · sin)  ⇒  dx = dy turned by the negative angle
///
/// x₁ and x₂ are the halves of what is rotated of each head, or with `interleaved` its even and odd elements.
pub fn rotary<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    // Inputs: x, cos, sin, positions; in com.microsoft: x, positions, cos, sin.
    let (cos, sin, positions) = if n.node().domain.is_empty() { (1, 2, 3) } else { (2, 3, 1) };
    if n.needs(cos) || n.needs(sin) {
        return Err(
            "its caches of cos and sin are frozen; leave what they are computed from out of setting `train`".into()
        );
    }
    if n.node().int("is_packed_batching", 0) != 0 || n.float("scale", 1.0) != 1.0 {
        return Err("no gradient with is_packed_batching or a scale; export without graph optimisation".into());
    }
    let (rank, half) = (n.rank(0)?, n.fixed(cos, n.rank(cos)? - 1)?);
    let heads = n.node().int("num_heads", 0);
    let dy = match (rank, heads) {
        (4, _) => n.dy(0),
        // (batch, position, heads · size) → (batch, position, heads, size)
        (_, 0) => n.dy(0).reshape_to(&[0, 0, -1, 2 * half]),
        _ => n.dy(0).reshape_to(&[0, 0, heads, -1]),
    };
    let angle = |cache: usize| -> Result<Val<'b>, String> {
        if !n.has(positions) {
            return Ok(n.x(cache).unsqueeze(&[if rank == 4 { 1 } else { 2 }]));
        }
        let (at, together) = match n.rank(positions)? {
            1 => (counted(n, positions, if rank == 4 { 2 } else { 1 }), true),
            _ => (n.x(positions), false),
        };
        let rows = n.x(cache).gather(at, 0);
        Ok(match (rank, together) {
            (4, true) => rows,
            (4, false) => rows.unsqueeze(&[1]),
            _ => rows.unsqueeze(&[-2]),
        })
    };
    let (cos, sin) = (angle(cos)?, angle(sin)?);
    let interleaved = n.node().int("interleaved", 0) != 0;
    let part = n.node().int("rotary_embedding_dim", 0) != 0;
    let dx = turned_back(dy, [cos, sin], half, interleaved, part);
    Ok(vec![Some(if rank == 4 { dx } else { as_input(n, 0, dx) })])
}

/// `value`, of rank 4, with its last dimension turned by the negative angle, `half` pairs of it; `part`: there are more
/// elements, which stay as they are. With −sin it is turned by the angle itself.
pub(super) fn turned_back<'b>(
    value: Val<'b>,
    [cos, sin]: [Val<'b>; 2],
    half: i64,
    interleaved: bool,
    part: bool,
) -> Val<'b> {
    let (first, second) = match interleaved {
        true => (every_second(value, 0, 2 * half), every_second(value, 1, 2 * half)),
        false => (value.slice(&[0], &[half], &[-1]), value.slice(&[half], &[2 * half], &[-1])),
    };
    let turned = [first * cos + second * sin, second * cos - first * sin];
    let join = |parts: &[Val<'b>]| value.builder().op("Concat", parts, &[("axis", Attr::Int(-1))]);
    let all = match interleaved {
        true => join(&turned.map(|part| part.unsqueeze(&[-1]))).reshape_to(&[0, 0, 0, 2 * half]),
        false => join(&turned),
    };
    if part { join(&[all, value.slice(&[2 * half], &[i32::MAX.into()], &[-1])]) } else { all }
}

/// Elements `from`, `from` + 2, … before `to` of the last dimension.
fn every_second<'b>(value: Val<'b>, from: i64, to: i64) -> Val<'b> {
    let b = value.builder();
    b.op("Slice", &[value, b.ints(&[from]), b.ints(&[to]), b.ints(&[-1]), b.ints(&[2])], &[])
}

/// p, p + 1, … for each position, where input `positions` is the single p; dimension `axis` of x counts them.
fn counted<'b>(n: &At<'_, 'b>, positions: usize, axis: i64) -> Val<'b> {
    let first = n.x(positions).squeeze(&[0]);
    let count = sizes(n.x(0), axis, Some(axis + 1)).squeeze(&[0]);
    n.builder().op("Range", &[first, first + count, n.builder().constant(Tensor::from_i64(&[], &[1]))], &[])
}
