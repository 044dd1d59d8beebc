//! Convolution. Of a kernel's elements one speaks as taps.

use super::depthwise;
use super::shape::{joined, sizes};
use super::taps::{seen, stacked};
use super::window::{Window, fixed_shape, input_gradient, spatial_shape, windows};
use crate::grad::{At, Grads};
use crate::graph::{Attr, Val};

/// Kernels with more elements than this are not unrolled into one product for each element.
const UNROLLED_MAX: i64 = 49;

/// y = x ∗ W + b  ⇒  dx = dy ∗ᵀ W, dW = x ∗ dy, db = Σ over batch and space of dy
///
/// Measured for dW on ONNX Runtime 1.32 with batch 16 (CPU time in ms):
///
/// | | as a convolution | a product for each tap | products of positions |
/// |---|---|---|---|
/// | 1×1, 320→1280 at 7×7 | 46.6 | **5.1** | |
/// | 3×3, 256→256 at 7×7 | 16.6 | **8.4** | |
/// | 3×3, 64→64 at 14×14, batch 32 | 12.4 | **6.0** | |
/// | 3×3, 64→128 at 14×14, stride 2 | 3.2 | **1.2** | |
/// | depthwise 3×3, 960 at 7×7 | 11.5 | 8.5 | **2.4** |
/// | depthwise 5×5, 1152 at 7×7 | 22.5 | 23.9 | **4.2** |
/// | depthwise 3×3, 384 at 14×14 | 17.1 | **13.0** | 23.8 |
/// | depthwise 3×3, 576 at 14×14, stride 2 | 8.3 | **8.5** | 7.6 |
///
/// One product over all taps side by side (im2col) took 10 to 120 % longer than one for each tap.
pub fn conv<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    let shape = fixed_shape(n, 1)?;
    let group = n.node().int("group", 1);
    if shape.len() < 3 || group < 1 || shape[0] % group != 0 {
        return Err(format!("weights of shape {shape:?} do not fit {group} groups; the model is invalid"));
    }
    let windows = windows(n, &shape[2..])?;
    let depthwise = shape[0] == group && shape[1] == 1;
    let joins = if depthwise { depthwise::joins(&windows) } else { None };
    let dx = match &joins {
        _ if !n.needs(0) => None,
        Some(joins) => Some(depthwise::input(n, group, joins)),
        None => Some(input_gradient(n, n.dy(0), (n.x(1), &shape), group, &windows)?),
    };
    let unrolled = unrolled(&shape);
    let dw = n.needs(1).then(|| match &joins {
        Some(joins) => depthwise::weights(n, &shape, joins),
        None if unrolled && depthwise && group > 1 => depthwise::weights_by_slices(n, &shape, &windows),
        None => {
            let space = n.x_shape(0).ok().and_then(spatial_shape);
            weights((n.x(0), space), n.dy(0), &shape, group, &windows)
        }
    });
    let db = n.needs(2).then(|| {
        let axes: Vec<i64> = (0..shape.len() as i64).filter(|axis| *axis != 1).collect();
        n.dy(0).reduce_sum(&axes, false)
    });
    let mut gradients = vec![dx, dw, db];
    gradients.truncate(n.inputs());
    Ok(gradients)
}

/// y by products of positions, where that is faster than the `Conv` itself: a kernel that is no constant (it learns),
/// one for each channel, over a small space.
pub fn faster_output<'b>(n: &At<'_, 'b>) -> Option<Val<'b>> {
    let shape = fixed_shape(n, 1).ok()?;
    let group = n.node().int("group", 1);
    let learns = n.constant(1).is_none() && n.dequantised_weight(1).is_none();
    if !learns || shape.len() < 3 || shape[0] != group || shape[1] != 1 || group == 1 {
        return None;
    }
    let joins = depthwise::joins(&windows(n, &shape[2..]).ok()?)?;
    Some(depthwise::output(n, group, &joins))
}

/// Batch and channels swapped.
fn batch_second(value: Val<'_>, spatial: usize) -> Val<'_> {
    let perm: Vec<i64> = [1, 0].into_iter().chain(2..spatial as i64 + 2).collect();
    value.transpose(&perm)
}

/// Whether a kernel becomes one product for each of its elements.
fn unrolled(shape: &[i64]) -> bool {
    shape[2..].iter().product::<i64>() <= UNROLLED_MAX
}

/// dW of a convolution of `x` (with its spatial sizes, where known) that gave `dy`. `W: shape`.
pub fn weights<'b>(
    x: (Val<'b>, Option<Vec<i64>>),
    dy: Val<'b>,
    shape: &[i64],
    group: i64,
    windows: &[Window],
) -> Val<'b> {
    if group == 1 && unrolled(shape) {
        dense_weights(x.0, dy, shape, windows)
    } else {
        grouped_weights(x, dy, shape, group, windows)
    }
}

/// dW of one group: for each tap dyᵀ · (what it saw of x), over batch and space at once.
///
/// With one tap that sees all of x, both operands stay channels first: batch and channels swap in whole rows, and `Gemm`
/// takes the transpose (up to 6 % of a step on EfficientNet-Lite0's last two blocks).
fn dense_weights<'b>(x: Val<'b>, dy: Val<'b>, shape: &[i64], windows: &[Window]) -> Val<'b> {
    let dy = batch_second(dy, windows.len()).reshape_to(&[shape[0], -1]);
    if windows.iter().all(|w| w.kernel == 1 && w.stride == 1 && w.begin + w.end == 0) {
        let x = batch_second(x, windows.len()).reshape_to(&[shape[1], -1]);
        return x.builder().op("Gemm", &[dy, x], &[("transB", Attr::Int(1))]).reshape_to(shape);
    }
    let parts: Vec<Val<'b>> = seen(x, windows).into_iter().map(|x| dy.matmul(x.reshape_to(&[-1, shape[1]]))).collect();
    stacked(&parts, 2, shape)
}

/// dW in general, as a convolution of x with dy: batch and channels change places, strides and dilations too.
///
/// For each group the channels are the batch and the batch the channels; what lies beyond the kernel (the elements
/// that no window reached) is cut off.
fn grouped_weights<'b>(
    (x, space): (Val<'b>, Option<Vec<i64>>),
    dy: Val<'b>,
    shape: &[i64],
    group: i64,
    windows: &[Window],
) -> Val<'b> {
    let b = x.builder();
    let (c, kernel, spatial) = (shape[1], &shape[2..], windows.len());
    let x_swapped = if group == 1 {
        batch_second(x, spatial)
    } else {
        // [batch, group · c, space] → [c, group · batch, space]
        let swapped = x.reshape_to(&[0, group, c, -1]).transpose(&[2, 1, 0, 3]);
        match space {
            Some(space) => swapped.reshape_to(&[&[c, -1], &space[..]].concat()),
            None => swapped.reshape(joined(&[b.ints(&[c, -1]), sizes(x, 2, None)])),
        }
    };
    let each = |of: &dyn Fn(&Window) -> i64| windows.iter().map(of).collect::<Vec<i64>>();
    let attributes = [
        ("group", Attr::Int(group)),
        ("strides", Attr::Ints(each(&|w| w.dilation))),
        ("dilations", Attr::Ints(each(&|w| w.stride))),
        ("pads", Attr::Ints([each(&|w| w.begin), each(&|w| w.end)].concat())),
    ];
    let dw = b.op("Conv", &[x_swapped, batch_second(dy, spatial)], &attributes);
    let axes: Vec<i64> = (2..spatial as i64 + 2).collect();
    batch_second(dw.slice(&vec![0; spatial], kernel, &axes), spatial)
}
