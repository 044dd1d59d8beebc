//! Grouped queries with rotation as one node, as onnxruntime-genai's model builder writes decoders.

use super::attention::{Heads, causal, gradients, joined, no_gradient, plain, scale_of, split};
use super::rotary::turned_back;
use super::shape::sizes;
use crate::grad::{At, Grads};
use crate::graph::{Attr, Tensor, Val};

/// Attention as in [`super::attention::gradients`] of queries and keys that are turned by their positions; several
/// queries' heads share one of keys and values. Queries, keys and values are inputs 0 to 2, or side by side in input 0
/// (`com.microsoft`).
///
/// Lengths (input 5) need no mask of their own: shorter rows are padded at their end, which no word before it looks at.
pub fn grouped_query<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let beyond = [(3, "past_key"), (4, "past_value"), (9, "position_ids"), (10, "attention_bias"), (11, "head_sink")];
    let newer = [(14, "q_norm_weight"), (15, "k_norm_weight"), (16, "query_seqlens")];
    plain(n, &[&beyond[..], &newer[..]].concat(), &["smooth_softmax"])?;
    if n.node().int("local_window_size", -1) > 0 {
        return Err(no_gradient("its attribute local_window_size"));
    }
    let (queries, keys) = (n.node().int("num_heads", 1), n.node().int("kv_num_heads", 1));
    let heads = Heads::known(n, queries, keys)?;
    let packed = !n.has(1);
    let size = n.fixed(0, 2)? / if packed { queries + 2 * keys } else { queries };
    let bounds = [0, queries, queries + keys, queries + 2 * keys];
    let part = |i: usize| match packed {
        true => n.x(0).slice(&[bounds[i] * size], &[bounds[i + 1] * size], &[2]),
        false => n.x(i),
    };
    let by_head = |i: usize| split(part(i), if i == 0 { queries } else { keys });
    let needed = [0, 1, 2].map(|i| packed || n.needs(i));
    let rotation = if n.node().int("do_rotary", 0) != 0 { Some(Rotation::new(n, size)?) } else { None };
    let forth = |value: Val<'b>| rotation.as_ref().map_or(value, |rotation| rotation.forth(value));
    let back = |value: Val<'b>| rotation.as_ref().map_or(value, |rotation| rotation.rotate_back(value));
    let (q, k) = (forth(by_head(0)), forth(by_head(1)));
    let above = needed[0] || needed[1];
    let v = if above || queries != keys { by_head(2) } else { n.x(2) };
    let parts = [q, heads.repeated(k), if above { heads.repeated(v) } else { v }];
    let cap = n.float("softcap", 0.0);
    let masked = |scores: Val<'b>| if n.node().int("causal", 1) != 0 { causal(scores) } else { scores };
    let [dq, dk, dv] = gradients(parts, needed, scale_of(n, Ok(size))?, cap, masked, split(n.dy(0), queries));
    let dx = [
        dq.map(|dq| joined(back(dq), queries * size)),
        dk.map(|dk| joined(back(heads.summed(dk, k)), keys * size)),
        dv.map(|dv| joined(heads.summed(dv, v), keys * size)),
    ];
    if !packed {
        return Ok(dx.to_vec());
    }
    let dx: Vec<Val<'b>> = dx.into_iter().flatten().collect();
    Ok(vec![Some(n.builder().op("Concat", &dx, &[("axis", Attr::Int(2))]))])
}

/// How the node turns queries and keys.
struct Rotation<'b> {
    cos: Val<'b>,
    sin: Val<'b>,
    half: i64,
    interleaved: bool,
    part: bool,
}

impl<'b> Rotation<'b> {
    /// Rotates by the caches (positions, half) at the positions 0, 1, …, for heads of that size.
    fn new(n: &At<'_, 'b>, size: i64) -> Result<Self, String> {
        let b = n.builder();
        let int = |value| b.constant(Tensor::from_i64(&[], &[value]));
        let count = || sizes(n.x(0), 1, Some(2)).squeeze(&[0]);
        let rows = |cache: usize| n.x(cache).gather(b.op("Range", &[int(0), count(), int(1)], &[]), 0);
        let half = n.fixed(7, 1)?;
        let interleaved = n.node().int("rotary_interleaved", 0) != 0;
        Ok(Self { cos: rows(7), sin: rows(8), half, interleaved, part: 2 * half < size })
    }

    fn forth(&self, value: Val<'b>) -> Val<'b> {
        turned_back(value, [self.cos, -self.sin], self.half, self.interleaved, self.part)
    }

    fn rotate_back(&self, value: Val<'b>) -> Val<'b> {
        turned_back(value, [self.cos, self.sin], self.half, self.interleaved, self.part)
    }
}
