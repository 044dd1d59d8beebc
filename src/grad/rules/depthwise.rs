//! Convolution where each channel has its own kernel: what is faster for its gradients than a convolution.
//!
//! Where space is small (7×7 in most image models' last layers) a channel is a product of two small matrices, one for
//! each pair of an input and an output position; matrix products run at full speed, convolutions of one channel do not.

use super::shape::as_input;
use super::taps::{channels_last, seen, stacked};
use super::window::{Window, digits};
use crate::grad::At;
use crate::graph::{Attr, Tensor, Val};

/// Pairs of an input and an output position up to which a channel becomes a matrix (16 KiB of f32 a channel).
const PAIRS_MAX: i64 = 4096;

/// Input positions for each element of the kernel up to which products beat sums of slices at a batch of 16.
const POSITIONS_PER_TAP: i64 = 16;

/// Which pairs of positions the elements (taps) of a kernel join.
pub struct Joins {
    /// `[taps, outputs · inputs]`: 1 where tap *t* of the window at output *q* looks at input *p*, else 0.
    table: Tensor,
    /// Taps, output positions, input positions.
    sizes: [i64; 3],
    /// The output positions as the sizes of space.
    space: Vec<i64>,
}

/// The joins of such windows; `None` where space is not fixed, or so large that the products do too much.
pub fn joins(windows: &[Window]) -> Option<Joins> {
    let inputs: Vec<i64> = windows.iter().map(|w| w.size).collect::<Option<_>>()?;
    let outputs: Vec<i64> = windows.iter().map(|w| w.out).collect::<Option<_>>()?;
    let kernel: Vec<i64> = windows.iter().map(|w| w.kernel).collect();
    let sizes @ [taps, outs, ins] = [&kernel, &outputs, &inputs].map(|all| all.iter().product::<i64>());
    if outs * ins > PAIRS_MAX || ins > POSITIONS_PER_TAP * taps {
        return None;
    }
    let mut table = vec![0.0f32; (taps * outs * ins) as usize];
    for row in 0..taps * outs {
        let (tap, output) = (digits(row / outs, &kernel), digits(row % outs, &outputs));
        let looked_at = windows.iter().enumerate().try_fold(0, |position, (i, w)| {
            let at = output[i] * w.stride + tap[i] * w.dilation - w.begin;
            (0..inputs[i]).contains(&at).then_some(position * inputs[i] + at)
        });
        if let Some(position) = looked_at {
            table[(row * ins + position) as usize] = 1.0;
        }
    }
    Some(Joins { table: Tensor::from_f32(&[taps as u64, (outs * ins) as u64], &table), sizes, space: outputs })
}

/// dx = dy · T for each channel, where T holds the kernel at the pairs that it joins. `w: [channels, 1, kernel…]`.
///
/// Measured on ONNX Runtime 1.32 (CPU time in ms, `Conv` / this): 3×3, 960 channels at 7×7 with batch 16 5.5 / 4.5, with
/// batch 32 10.7 / 3.9; 5×5, 1152 channels at 7×7 with batch 16 16.8 / 3.6.
pub fn input<'b>(n: &At<'_, 'b>, channels: i64, joins: &Joins) -> Val<'b> {
    let [taps, outs, ins] = joins.sizes;
    let dy = n.dy(0).reshape_to(&[0, channels, outs]).transpose(&[1, 0, 2]);
    let table = n.builder().constant(joins.table.clone()).cast(dy.dtype());
    let joined = n.x(1).reshape_to(&[channels, taps]).matmul(table).reshape_to(&[channels, outs, ins]);
    as_input(n, 0, dy.matmul(joined).transpose(&[1, 0, 2]))
}

/// y = x · Tᵀ + b: the forward pass by the same products, and with the same T as [`input`].
///
/// Measured as above (`Conv` with a kernel that is an input / this): 3×3, 1152 channels at 7×7 with batch 16 6.3 / 3.4; 5×5
/// 16.3 / 3.6. With a constant kernel, which ONNX Runtime rearranges when it loads, `Conv` takes 1.0 and 1.2.
pub fn output<'b>(n: &At<'_, 'b>, channels: i64, joins: &Joins) -> Val<'b> {
    let [taps, outs, ins] = joins.sizes;
    let x = n.x(0).reshape_to(&[0, channels, ins]).transpose(&[1, 0, 2]);
    let table = n.builder().constant(joins.table.clone()).cast(x.dtype());
    let joined = n.x(1).reshape_to(&[channels, taps]).matmul(table).reshape_to(&[channels, outs, ins]);
    let y = x.matmul(joined.transpose(&[0, 2, 1])).transpose(&[1, 0, 2]);
    let space: Vec<i64> = joins.space.clone();
    let y = y.reshape_to(&[&[0, channels], &space[..]].concat());
    if n.has(2) { y + n.x(2).reshape_to(&[&[channels], &vec![1; space.len()][..]].concat()) } else { y }
}

/// dW: for each channel dyᵀ · x is the sum over the batch of every pair of positions; each tap sums the pairs it joins.
/// `shape: [channels, 1, kernel…]`.
pub fn weights<'b>(n: &At<'_, 'b>, shape: &[i64], joins: &Joins) -> Val<'b> {
    let [_, outs, ins] = joins.sizes;
    let channels = shape[0];
    let dy = n.dy(0).reshape_to(&[0, channels, outs]).transpose(&[1, 2, 0]);
    let x = n.x(0).reshape_to(&[0, channels, ins]).transpose(&[1, 0, 2]);
    let table = n.builder().constant(joins.table.clone()).cast(dy.dtype());
    let pairs = dy.matmul(x).reshape_to(&[channels, outs * ins]);
    n.builder().op("Gemm", &[pairs, table], &[("transB", Attr::Int(1))]).reshape_to(shape)
}

/// dW where space is large: for each tap Σ over batch and space of dy · (what it saw of x).
pub fn weights_by_slices<'b>(n: &At<'_, 'b>, shape: &[i64], windows: &[Window]) -> Val<'b> {
    let dy = channels_last(n.dy(0), windows.len());
    let axes: Vec<i64> = (0..=windows.len() as i64).collect();
    let parts: Vec<Val<'b>> = seen(n.x(0), windows).into_iter().map(|x| (x * dy).reduce_sum(&axes, false)).collect();
    stacked(&parts, 1, shape)
}
