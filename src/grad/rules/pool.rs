//! Pooling.

use super::added::scattered;
use super::shape::{as_input, sizes};
use super::window::{Window, input_gradient, windows};
use crate::grad::{At, Grads};
use crate::graph::{Attr, Tensor, Val};

/// y = mean of x over space  ⇒  dx = dy / |space|, everywhere
pub fn global_average_pool<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let fixed: Result<Vec<i64>, _> = (2..n.rank(0)?).map(|axis| n.fixed(0, axis)).collect();
    if let Ok(space) = fixed {
        // A product with a constant of the space's shape: 0.4 ms where Expand takes 1.2 (1280 channels of 7×7, batch 16).
        let shape: Vec<u64> = [1, 1].into_iter().chain(space.iter().map(|size| *size as u64)).collect();
        let count = space.iter().product::<i64>() as usize;
        let shares = Tensor::from_f32(&shape, &vec![1.0 / count as f32; count]);
        return Ok(vec![Some(n.dy(0) * n.builder().constant(shares).cast(n.dy(0).dtype()))]);
    }
    let space = n.builder().op("ReduceProd", &[sizes(n.x(0), 2, None)], &[("keepdims", Attr::Int(0))]);
    let share = n.dy(0) / space.cast(n.dy(0).dtype());
    Ok(vec![Some(share.expand(n.x(0).shape()))])
}

/// y = the largest x over space  ⇒  dx = dy where it was (the first, where several are largest)
pub fn global_max_pool<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let flat = |value: Val<'b>| value.reshape_to(&[0, 0, -1]);
    let x = flat(n.x(0));
    let b = n.builder();
    let at = b.op("ArgMax", &[x], &[("axis", Attr::Int(2))]);
    let dx = b.op("ScatterElements", &[n.zeros_like(x), at, flat(n.dy(0))], &[("axis", Attr::Int(2))]);
    Ok(vec![Some(dx.reshape(n.x(0).shape()))])
}

/// y = the largest x of a window  ⇒  dx = Σ over the windows that chose x of dy
///
/// A second `MaxPool` tells where they were, as positions in all of x; the first, where several are largest.
pub fn max_pool<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let attributes: Vec<(&str, Attr)> = n
        .node()
        .attributes
        .iter()
        .filter(|(name, _)| name.as_str() != "storage_order")
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let at = n.builder().node("MaxPool", &[Some(n.x(0))], 2, &attributes)[1];
    Ok(vec![Some(scattered(n.x(0), at, n.dy(0)))])
}

/// y = mean of a window of x  ⇒  dx = Σ over the windows that saw x of dy / (elements that count)
pub fn average_pool<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let kernel = n.node().ints("kernel_shape").ok_or("kernel_shape is missing; the model is invalid")?;
    let windows = windows(n, kernel)?;
    let dy = n.dy(0) * shares(n, &windows)?;
    if let Some(dx) = tiled(n, dy, &windows) {
        return Ok(vec![Some(dx)]);
    }
    let channels = n.fixed(0, 1)?;
    let shape = [&[channels, 1], kernel].concat();
    let ones = Tensor::from_f32(
        &shape.iter().map(|size| *size as u64).collect::<Vec<_>>(),
        &vec![1.0; shape.iter().product::<i64>() as usize],
    );
    let ones = n.builder().constant(ones).cast(dy.dtype());
    Ok(vec![Some(input_gradient(n, dy, (ones, &shape), channels, &windows)?)])
}

/// 1 / (elements that count) for each window, broadcastable to y.
fn shares<'b>(n: &At<'_, 'b>, windows: &[Window]) -> Result<Val<'b>, String> {
    let with_pads = n.node().int("count_include_pad", 0) == 1;
    let all_inside = |w: &Window| (with_pads || w.begin + w.end == 0) && n.node().int("ceil_mode", 0) == 0;
    if windows.iter().all(all_inside) {
        let count: i64 = windows.iter().map(|w| w.kernel).product();
        return Ok(n.dy(0).scalar_like(1.0 / count as f64));
    }
    // The number that counts is a product over the dimensions.
    let mut shares: Option<Val<'b>> = None;
    for (i, window) in windows.iter().enumerate() {
        let counts = counts(n, window, with_pads, i + 2)?;
        let mut shape = vec![1; windows.len() - i];
        shape[0] = counts.len() as u64;
        let inverse: Vec<f32> = counts.iter().map(|count| 1.0 / *count as f32).collect();
        let share = n.builder().constant(Tensor::from_f32(&shape, &inverse)).cast(n.dy(0).dtype());
        shares = Some(shares.map_or(share, |before| before * share));
    }
    shares.ok_or_else(|| "no spatial dimension; the model is invalid".into())
}

/// How many elements of each window count along one dimension.
fn counts(n: &At<'_, '_>, window: &Window, with_pads: bool, axis: usize) -> Result<Vec<i64>, String> {
    let size = n.fixed(0, axis)?;
    let out = window.out.ok_or_else(|| {
        format!("dimension {axis} of output 0 must be fixed for its gradient; export the model with it fixed")
    })?;
    let counted = if with_pads { -window.begin..size + window.end } else { 0..size };
    let count = |at: i64| {
        let first = at * window.stride - window.begin;
        (0..window.kernel).filter(|tap| counted.contains(&(first + tap * window.dilation))).count().max(1) as i64
    };
    Ok((0..out).map(count).collect())
}

/// The sum over windows where each x is in exactly one: dy repeated.
fn tiled<'b>(n: &At<'_, 'b>, dy: Val<'b>, windows: &[Window]) -> Option<Val<'b>> {
    let covers = |w: &Window| {
        let touch = w.kernel == w.stride || w.out == Some(1);
        let full = w.out.zip(w.size).is_some_and(|(out, size)| out * w.kernel == size);
        touch && full && w.dilation == 1 && w.begin == 0
    };
    if !windows.iter().all(covers) {
        return None;
    }
    if windows.iter().all(|w| w.out == Some(1)) {
        return Some(dy.expand(n.x(0).shape()));
    }
    let axes: Vec<i64> = (0..windows.len() as i64).map(|i| 3 + 2 * i).collect();
    let repeats: Vec<i64> = [1, 1].into_iter().chain(windows.iter().flat_map(|w| [1, w.kernel])).collect();
    Some(as_input(n, 0, dy.unsqueeze(&axes).expand(n.builder().ints(&repeats))))
}
