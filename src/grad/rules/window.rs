//! Windows that slide over space: what `Conv` and the pools share.

use super::shape::{Border, bordered, sizes};
use crate::grad::At;
use crate::graph::{Attr, Dim, Val};

/// How a window slides along one spatial dimension.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Elements that the window looks at.
    pub kernel: i64,
    /// Distance between neighbouring windows.
    pub stride: i64,
    /// Distance between neighbouring elements of a window.
    pub dilation: i64,
    /// Padding in front.
    pub begin: i64,
    /// Padding behind.
    pub end: i64,
    /// Size of the input, where known.
    pub size: Option<i64>,
    /// Size of the output, where known.
    pub out: Option<i64>,
}

impl Window {
    /// From a window's first element to its last, both included.
    pub fn extent(&self) -> i64 {
        self.dilation * (self.kernel - 1) + 1
    }
}

/// The windows of a `Conv` or a pool with that kernel, one for each spatial dimension, `auto_pad` resolved.
///
/// # Errors
/// Where padding depends on a size that is not fixed, or the attributes do not fit the input's rank.
pub fn windows(n: &At<'_, '_>, kernel: &[i64]) -> Result<Vec<Window>, String> {
    let spatial = n.rank(0)?.saturating_sub(2);
    let node = n.node();
    let each = |name: &str, count: usize, default: i64| match node.ints(name) {
        Some(values) if values.len() == count => Ok(values.to_vec()),
        Some(values) => {
            Err(format!("{name} {values:?} does not fit {spatial} spatial dimensions; the model is invalid"))
        }
        None => Ok(vec![default; count]),
    };
    if kernel.len() != spatial || spatial == 0 {
        return Err(format!("kernel {kernel:?} does not fit {spatial} spatial dimensions; the model is invalid"));
    }
    let (strides, dilations) = (each("strides", spatial, 1)?, each("dilations", spatial, 1)?);
    let pads = each("pads", 2 * spatial, 0)?;
    let auto = node.str("auto_pad", "NOTSET");
    let outs = n.y_shape(0).ok().filter(|shape| shape.len() == spatial + 2);
    let mut windows = Vec::with_capacity(spatial);
    for i in 0..spatial {
        let (begin, end) = if auto == "NOTSET" { (pads[i], pads[spatial + i]) } else { (0, 0) };
        let size = n.fixed(0, i + 2).ok();
        let (kernel, stride, dilation) = (kernel[i], strides[i], dilations[i]);
        let mut window = Window { kernel, stride, dilation, begin, end, size, out: None };
        if auto.starts_with("SAME") {
            // With a stride of 1 the padding is the same for every size.
            let size = if stride == 1 { 1 } else { n.fixed(0, i + 2)? };
            let total = ((size - 1) / stride * stride + window.extent() - size).max(0);
            let less = total / 2;
            (window.begin, window.end) = if auto == "SAME_LOWER" { (total - less, less) } else { (less, total - less) };
        }
        let floor = |size: i64| (size + window.begin + window.end - window.extent()) / stride + 1;
        let rounded = size.filter(|_| node.int("ceil_mode", 0) == 0).map(floor);
        window.out = outs.and_then(|shape| shape[i + 2].fixed()).map(|out| out as i64).or(rounded);
        windows.push(window);
    }
    Ok(windows)
}

/// dx of a convolution of `x` (input 0) with `w`, from `dy` in the output's shape: each dy is handed back, weighted,
/// to the elements that its window looked at. `w: [outputs, inputs / group, kernel…]`.
///
/// With strides of 1 that is a convolution of dy with the kernel turned round, otherwise a `ConvTranspose`. Measured on
/// ONNX Runtime 1.32 (batch 16, CPU time, ms, turned / `ConvTranspose`): 1×1 320→1280 at 7×7 6.1 / 7.9; 3×3 64→64 at
/// 14×14 2.9 / 2.4; 3×3 256→256 at 7×7 11.8 / 11.3; depthwise 3×3, 960 channels at 7×7 5.7 / 5.2. `Conv` shares its
/// groups and images among threads, `ConvTranspose` does not. With a stride of 2 (dy spread with zeros / `ConvTranspose`):
/// 3×3 64→128 8.0 / 1.5, depthwise 576 at 14×14 12.7 / 3.9. Sums of slices were 3 to 9 times slower
/// for depthwise; for small spaces see [`super::depthwise`].
///
/// # Errors
/// Where a size of `w` is not fixed.
pub fn input_gradient<'b>(
    n: &At<'_, 'b>,
    dy: Val<'b>,
    w: (Val<'b>, &[i64]),
    group: i64,
    windows: &[Window],
) -> Result<Val<'b>, String> {
    let pads = |begin: &dyn Fn(&Window) -> i64, end: &dyn Fn(&Window) -> i64| {
        Attr::Ints(windows.iter().map(begin).chain(windows.iter().map(end)).collect())
    };
    let each = |of: &dyn Fn(&Window) -> i64| Attr::Ints(windows.iter().map(of).collect());
    let b = n.builder();
    let (kernel, dilations) = (("kernel_shape", each(&|w| w.kernel)), ("dilations", each(&|w| w.dilation)));
    if windows.iter().all(|w| w.stride == 1 && w.begin.max(w.end) < w.extent()) {
        let pads = pads(&|w| w.extent() - 1 - w.begin, &|w| w.extent() - 1 - w.end);
        let attributes = [kernel, dilations, ("group", Attr::Int(group)), ("pads", pads)];
        return Ok(b.op("Conv", &[dy, turned(w, group)], &attributes));
    }
    // Behind, the padding is what makes the result as long as x: elements that no window reached are added.
    let sized = windows.iter().all(|w| w.size.is_some() && w.out.is_some());
    let behind = |w: &Window| match (w.size, w.out) {
        (Some(size), Some(out)) if sized => w.stride * (out - 1) + w.extent() - w.begin - size,
        // Nothing may be cut off before x's size is known: with a remainder it is less than the padding.
        _ => 0,
    };
    let mut attributes = vec![kernel, dilations, ("group", Attr::Int(group)), ("strides", each(&|w| w.stride))];
    attributes.push(("pads", pads(&|w| w.begin, &|w| behind(w).max(0))));
    if windows.iter().any(|w| behind(w) < 0) {
        attributes.push(("output_padding", each(&|w| (-behind(w)).max(0))));
    }
    let dx = b.op("ConvTranspose", &[dy, w.0], &attributes);
    Ok(if sized { dx } else { lengthened(dx, n.x(0), windows.len()) })
}

/// `value` with zeros behind (or elements cut off) along the spatial dimensions, to be as long as `like`.
fn lengthened<'b>(value: Val<'b>, like: Val<'b>, spatial: usize) -> Val<'b> {
    let front = vec![Border::Known(0); spatial + 2];
    let mut back = front.clone();
    for axis in 2..spatial as i64 + 2 {
        let size = |value| sizes(value, axis, Some(axis + 1));
        back[axis as usize] = Border::AtRunTime(size(like) - size(value));
    }
    bordered(value, &front, &back)
}

/// The kernel for handing gradients back: turned round in space, inputs and outputs swapped within each group.
/// From `[group · o, c, kernel…]` to `[group · c, o, kernel…]`.
fn turned<'b>((w, shape): (Val<'b>, &[i64]), group: i64) -> Val<'b> {
    let (outputs, c, kernel) = (shape[0], shape[1], &shape[2..]);
    let (o, spatial) = (outputs / group, kernel.len() as i64);
    let axes: Vec<i64> = (2..spatial + 2).collect();
    let w = if kernel.iter().all(|size| *size == 1) { w } else { reversed(w, &axes) };
    if o == 1 && c == 1 {
        w
    } else if group == 1 {
        w.transpose(&[&[1, 0], &axes[..]].concat())
    } else {
        let perm = [&[0, 2, 1], &(3..spatial + 3).collect::<Vec<_>>()[..]].concat();
        w.reshape_to(&[&[group, o, c], kernel].concat())
            .transpose(&perm)
            .reshape_to(&[&[group * c, o], kernel].concat())
    }
}

/// `value` with the order along `axes` reversed.
fn reversed<'b>(value: Val<'b>, axes: &[i64]) -> Val<'b> {
    let b = value.builder();
    let all = |bound: i64| b.ints(&vec![bound; axes.len()]);
    b.op("Slice", &[value, all(-1), all(i64::MIN), b.ints(axes), all(-1)], &[])
}

/// A position in row-major order as an index for each dimension.
pub fn digits(position: i64, sizes: &[i64]) -> Vec<i64> {
    let mut rest = position;
    let mut digits: Vec<i64> = sizes
        .iter()
        .rev()
        .map(|size| {
            let digit = rest % size;
            rest /= size;
            digit
        })
        .collect();
    digits.reverse();
    digits
}

/// The sizes of input `i`, all of which must be fixed.
///
/// # Errors
/// Where one is not.
pub fn fixed_shape(n: &At<'_, '_>, i: usize) -> Result<Vec<i64>, String> {
    (0..n.x_shape(i)?.len()).map(|axis| n.fixed(i, axis)).collect()
}

/// Whether the sizes of a value's spatial dimensions are all known.
pub fn spatial_shape(shape: &[Dim]) -> Option<Vec<i64>> {
    shape.iter().skip(2).map(|dim| dim.fixed().map(|size| size as i64)).collect()
}
