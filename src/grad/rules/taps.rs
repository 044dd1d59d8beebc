//! A convolution's kernel, element by element (tap by tap): what each has seen, and what was found for each as one kernel again.

use super::shape::{Border, bordered};
use super::window::{Window, digits};
use crate::graph::{Attr, Val};

/// Batch first, channels last.
pub fn channels_last(value: Val<'_>, spatial: usize) -> Val<'_> {
    let perm: Vec<i64> = std::iter::once(0).chain(2..spatial as i64 + 2).chain([1]).collect();
    value.transpose(&perm)
}

/// For each element (tap) of the kernel what it saw of x, in the order of the kernel: `[batch, out…, channels]`.
pub fn seen<'b>(x: Val<'b>, windows: &[Window]) -> Vec<Val<'b>> {
    let border = |of: &dyn Fn(&Window) -> i64| -> Vec<Border<'b>> {
        [0, 0].into_iter().chain(windows.iter().map(of)).map(Border::Known).collect()
    };
    let padded = bordered(x, &border(&|w| w.begin), &border(&|w| w.end));
    let x = channels_last(padded, windows.len());
    if windows.iter().all(|w| w.kernel == 1 && w.stride == 1) {
        return vec![x];
    }
    let b = x.builder();
    let axes: Vec<i64> = (1..=windows.len() as i64).collect();
    let strides: Vec<i64> = windows.iter().map(|w| w.stride).collect();
    let kernel: Vec<i64> = windows.iter().map(|w| w.kernel).collect();
    let slice_of = |tap: i64| {
        let place = digits(tap, &kernel);
        let starts: Vec<i64> = place.iter().zip(windows).map(|(at, w)| at * w.dilation).collect();
        // From the end, so that it is right for every size: what does not fill a stride is rounded away.
        let end =
            |(at, w): (&i64, &Window)| if at + 1 == w.kernel { i64::MAX } else { (at + 1 - w.kernel) * w.dilation };
        let ends: Vec<i64> = place.iter().zip(windows).map(end).collect();
        b.op("Slice", &[x, b.ints(&starts), b.ints(&ends), b.ints(&axes), b.ints(&strides)], &[])
    };
    (0..kernel.iter().product()).map(slice_of).collect()
}

/// Matrices or vectors, one for each element of the kernel, as weights of that shape: the kernel comes last.
pub fn stacked<'b>(parts: &[Val<'b>], axis: i64, shape: &[i64]) -> Val<'b> {
    if let [only] = parts {
        return only.reshape_to(shape);
    }
    let parts: Vec<Val<'b>> = parts.iter().map(|part| part.unsqueeze(&[axis])).collect();
    parts[0].builder().op("Concat", &parts, &[("axis", Attr::Int(axis))]).reshape_to(shape)
}
