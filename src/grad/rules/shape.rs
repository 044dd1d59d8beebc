//! Operators that move elements without computing: views, joins, cuts, borders, repeats.

use super::added::scattered;
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Dim, Val};

/// What exporters write for "to the end"; anything as large means it.
const FAR: i64 = i32::MAX as i64;

/// `value`, which has input `i`'s elements in input `i`'s order, in input `i`'s shape.
pub fn as_input<'b>(n: &At<'_, 'b>, i: usize, value: Val<'b>) -> Val<'b> {
    let sizes: Option<Vec<i64>> = n.x_shape(i).ok().map(|dims| dims.iter().map(|dim| size_or(dim, -1)).collect());
    match sizes {
        // A size of 0 would mean "keep" and makes −1 ambiguous.
        Some(sizes) if sizes.iter().filter(|size| **size == -1).count() <= 1 && !sizes.contains(&0) => {
            value.reshape_to(&sizes)
        }
        _ => value.reshape(n.x(i).shape()),
    }
}

fn size_or(dim: &Dim, otherwise: i64) -> i64 {
    dim.fixed().map_or(otherwise, |size| size as i64)
}

/// Elements `from..to` (negative: from the end; absent: to the end) of the shape of `value`, as a vector of `i64`.
pub fn sizes<'b>(value: Val<'b>, from: i64, to: Option<i64>) -> Val<'b> {
    let mut attributes = vec![("start", Attr::Int(from))];
    attributes.extend(to.map(|to| ("end", Attr::Int(to))));
    value.builder().op("Shape", &[value], &attributes)
}

/// Vectors of `i64` joined to one.
pub fn joined<'b>(parts: &[Val<'b>]) -> Val<'b> {
    parts[0].builder().op("Concat", parts, &[("axis", Attr::Int(0))])
}

/// y = the elements of x in another shape  ⇒  dx = dy in x's shape
///
/// `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`.
pub fn reshape<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(as_input(n, 0, n.dy(0)))])
}

/// y\[i(perm)\] = x\[i\]  ⇒  dx = dy transposed by perm⁻¹
pub fn transpose<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let perm = match n.node().ints("perm") {
        Some(perm) => perm.to_vec(),
        None => (0..n.rank(0)? as i64).rev().collect(),
    };
    let mut inverse = vec![0; perm.len()];
    for (to, from) in perm.iter().enumerate() {
        let slot = usize::try_from(*from).ok().and_then(|from| inverse.get_mut(from));
        *slot.ok_or_else(|| format!("perm {perm:?} is no permutation; the model is invalid"))? = to as i64;
    }
    Ok(vec![Some(n.dy(0).transpose(&inverse))])
}

/// y = \[x₀ | x₁ | …\]  ⇒  dxᵢ = its part of dy
pub fn concat<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let axis = n.axis(n.node().int("axis", 0), n.rank(0)?);
    let fixed: Option<Vec<i64>> = (0..n.inputs()).map(|i| n.fixed(i, axis as usize).ok()).collect();
    match fixed {
        Some(sizes) => {
            let start = |i: usize| sizes[..i].iter().sum::<i64>();
            let part = |i| n.dy(0).slice(&[start(i)], &[start(i + 1)], &[axis]);
            Ok((0..n.inputs()).map(|i| n.needs(i).then(|| part(i))).collect())
        }
        None => Ok(concat_at_run_time(n, axis)),
    }
}

/// [`concat`] where a size along the axis is not known before the run.
fn concat_at_run_time<'b>(n: &At<'_, 'b>, axis: i64) -> Vec<Option<Val<'b>>> {
    let b = n.builder();
    let mut start = b.ints(&[0]);
    let mut parts = Vec::with_capacity(n.inputs());
    for i in 0..n.inputs() {
        let end = start + sizes(n.x(i), axis, Some(axis + 1));
        parts.push(n.needs(i).then(|| b.op("Slice", &[n.dy(0), start, end, b.ints(&[axis])], &[])));
        start = end;
    }
    parts
}

/// y₀, y₁, … = parts of x  ⇒  dx = \[dy₀ | dy₁ | …\], zeros for a part that nobody uses
pub fn split<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let count = n.node().outputs.len();
    if let Some(unnamed) = n.node().outputs.iter().position(Option::is_none) {
        return Err(format!("output {unnamed} has no name, so its size is unknown; name it in the exported model"));
    }
    let parts: Vec<Val<'b>> = (0..count).map(|j| n.dy(j)).collect();
    let axis = n.node().int("axis", 0);
    Ok(vec![Some(n.builder().op("Concat", &parts, &[("axis", Attr::Int(axis))]))])
}

/// y = x\[starts:ends:steps\]  ⇒  dx = dy between zeros
///
/// Constant bounds and steps of 1 become one `Pad`; anything else scatters dy to where its elements came from.
pub fn slice<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let dx = match padded_slice(n) {
        Some(dx) => dx,
        None => {
            let mut operands = vec![positions(n.x(0))];
            for i in 1..n.inputs() {
                operands.push(if n.has(i) { n.x(i) } else { default_axes(n)? });
            }
            scattered(n.x(0), n.builder().op("Slice", &operands, &[]), n.dy(0))
        }
    };
    Ok(vec![Some(dx)])
}

/// The axes of a `Slice` that gives steps but omits them: as many as it has starts.
fn default_axes<'b>(n: &At<'_, 'b>) -> Result<Val<'b>, String> {
    let starts = n.x_shape(1)?.first().and_then(Dim::fixed);
    let count = starts.ok_or("the number of starts is unknown; give the node its axes input")?;
    Ok(n.builder().ints(&(0..count as i64).collect::<Vec<_>>()))
}

/// [`slice`] as a `Pad`, where the bounds are constant and every step is 1.
fn padded_slice<'b>(n: &At<'_, 'b>) -> Option<Val<'b>> {
    let (starts, ends) = (n.constant_i64(1)?, n.constant_i64(2)?);
    let axes = if n.has(3) { n.constant_i64(3)? } else { (0..starts.len() as i64).collect() };
    if n.has(4) && n.constant_i64(4)?.iter().any(|step| *step != 1) {
        return None;
    }
    let rank = n.rank(0).ok()?;
    if starts.len() != ends.len() || starts.len() != axes.len() {
        return None;
    }
    let mut front = vec![Border::Known(0); rank];
    let mut back = vec![Border::Known(0); rank];
    for ((start, end), axis) in starts.into_iter().zip(ends).zip(axes) {
        let axis = n.axis(axis, rank) as usize;
        (front[axis], back[axis]) = cut_off(n, axis, start, end)?;
    }
    Some(bordered(n.dy(0), &front, &back))
}

/// How many elements `start..end` cuts off in front and behind along a dimension of input 0.
fn cut_off<'b>(n: &At<'_, 'b>, axis: usize, start: i64, end: i64) -> Option<(Border<'b>, Border<'b>)> {
    if let Ok(size) = n.fixed(0, axis) {
        let place = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size);
        let start = place(start);
        return Some((Border::Known(start), Border::Known(size - place(end).max(start))));
    }
    let size = |value| sizes(value, axis as i64, Some(axis as i64 + 1));
    let missing = || size(n.x(0)) - size(n.y(0));
    match (start, end) {
        (0, FAR..) => Some((Border::Known(0), Border::Known(0))),
        (..0, FAR..) => Some((Border::AtRunTime(missing()), Border::Known(0))),
        (0, _) => Some((Border::Known(0), Border::AtRunTime(missing()))),
        (1.., _) => {
            let front = n.builder().ints(&[start]).binary("Min", size(n.x(0)));
            Some((Border::AtRunTime(front), Border::AtRunTime(missing() - front)))
        }
        (..0, _) => None,
    }
}

/// The width of a border of zeros (negative: of elements cut off).
#[derive(Clone, Copy)]
pub enum Border<'b> {
    /// Known before the run.
    Known(i64),
    /// A vector of one `i64`.
    AtRunTime(Val<'b>),
}

/// `value` with zeros in front of and behind every dimension.
pub fn bordered<'b>(value: Val<'b>, front: &[Border<'b>], back: &[Border<'b>]) -> Val<'b> {
    let b = value.builder();
    let widths: Vec<Border<'b>> = front.iter().chain(back).copied().collect();
    let known: Option<Vec<i64>> = widths
        .iter()
        .map(|border| match border {
            Border::Known(width) => Some(*width),
            Border::AtRunTime(_) => None,
        })
        .collect();
    match known {
        Some(widths) if widths.iter().all(|width| *width == 0) => value,
        Some(widths) => b.op("Pad", &[value, b.ints(&widths)], &[]),
        None => {
            let parts: Vec<Val<'b>> = widths
                .iter()
                .map(|border| match border {
                    Border::Known(width) => b.ints(&[*width]),
                    Border::AtRunTime(width) => *width,
                })
                .collect();
            b.op("Pad", &[value, joined(&parts)], &[])
        }
    }
}

/// For each element of `x` its position in row-major order, as `i64` in x's shape.
pub fn positions<'b>(x: Val<'b>) -> Val<'b> {
    let b = x.builder();
    let scalar = |value| b.ints(&[value]).squeeze(&[0]);
    let count = b.op("Range", &[scalar(0), x.unary("Size"), scalar(1)], &[]);
    debug_assert_eq!(count.dtype(), DType::Int64);
    count.reshape(x.shape())
}

/// y = x repeated to a shape  ⇒  dx = dy, which the walk sums back
pub fn expand<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    Ok(vec![Some(n.dy(0))])
}

/// y = x with a border  ⇒  constant: dx = dy with the border cut off again (and a cut-off part filled with zeros);
/// edge, reflect, wrap: each dy is added to the element of x that it was copied from
pub fn pad<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    if n.needs(2) {
        return Err("no gradient for the value of the border; leave it out of setting `train`".into());
    }
    let b = n.builder();
    let mode = n.node().str("mode", "constant");
    let axes = n.has(3).then(|| n.x(3));
    let dx = if mode == "constant" {
        let widths = match n.constant_i64(1) {
            Some(pads) => b.ints(&pads.iter().map(|width| -width).collect::<Vec<_>>()),
            None => -n.x(1),
        };
        let operands: &[_] =
            if axes.is_some() { &[Some(n.dy(0)), Some(widths), None, axes] } else { &[Some(n.dy(0)), Some(widths)] };
        b.node("Pad", operands, 1, &[])[0]
    } else {
        let from = Some(positions(n.x(0)));
        let operands: &[_] = if axes.is_some() { &[from, Some(n.x(1)), None, axes] } else { &[from, Some(n.x(1))] };
        let from = b.node("Pad", operands, 1, &[("mode", Attr::Str(mode.into()))])[0];
        scattered(n.x(0), from, n.dy(0))
    };
    Ok(vec![Some(dx)])
}

/// y = x repeated rᵢ times along dimension i  ⇒  dx = Σ over the repeats of dy
pub fn tile<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let rank = n.rank(0)? as i64;
    if rank == 0 {
        return Ok(vec![Some(n.dy(0))]);
    }
    let b = n.builder();
    let pairs = [n.x(1).unsqueeze(&[1]), n.x(0).shape().unsqueeze(&[1])];
    let shape = b.op("Concat", &pairs, &[("axis", Attr::Int(1))]).reshape_to(&[-1]);
    let repeats: Vec<i64> = (0..rank).map(|axis| 2 * axis).collect();
    Ok(vec![Some(n.dy(0).reshape(shape).reduce_sum(&repeats, false))])
}

/// y = blocks of channels laid out in space  ⇒  dx = dy's blocks gathered into channels
///
/// In the mode `DCR` that is `SpaceToDepth`; `CRD` orders the channels the other way and is written out.
pub fn depth_to_space<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let block = n.node().int("blocksize", 1);
    if n.node().str("mode", "DCR") != "CRD" {
        return Ok(vec![Some(n.builder().op("SpaceToDepth", &[n.dy(0)], &[("blocksize", Attr::Int(block))]))]);
    }
    let b = n.builder();
    let (one, size) = (b.ints(&[block]), |axis| sizes(n.x(0), axis, Some(axis + 1)));
    let shape = joined(&[size(0), b.ints(&[-1]), size(2), one, size(3), one]);
    let dx = n.dy(0).reshape(shape).transpose(&[0, 1, 3, 5, 2, 4]);
    Ok(vec![Some(as_input(n, 0, dx))])
}

/// y = blocks of space gathered into channels  ⇒  dx = dy's channels laid out in space again
pub fn space_to_depth<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let block = n.node().int("blocksize", 1);
    Ok(vec![Some(n.builder().op("DepthToSpace", &[n.dy(0)], &[("blocksize", Attr::Int(block))]))])
}

/// y = x above or below a diagonal, else 0  ⇒  dx = dy there, else 0
pub fn trilu<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let inputs: Vec<Val<'b>> = std::iter::once(n.dy(0)).chain(n.has(1).then(|| n.x(1))).collect();
    Ok(vec![Some(n.builder().op("Trilu", &inputs, &[("upper", Attr::Int(n.node().int("upper", 1)))]))])
}
