//! Scores of pixels made as many as a mask has: bilinear interpolation, as `torch.nn.functional.interpolate(mode="bilinear",
//! align_corners=False)` without antialiasing.
//!
//! Along each axis it is a product with a matrix of two numbers a row. A step graph has these matrices as constants, so its gradient is
//! that of two products; evaluation does the same in Rust.

use crate::graph::{Builder, Tensor, Val};

/// Which two elements an element is made of, and the second's share.
type Mixed = (usize, usize, f32);

/// Where each of `outputs` elements lies among `inputs`.
fn places(inputs: u64, outputs: u64) -> Vec<Mixed> {
    let scale = inputs as f32 / outputs.max(1) as f32;
    let last = inputs.saturating_sub(1) as usize;
    let place = |output: u64| {
        let at = ((output as f32 + 0.5) * scale - 0.5).max(0.0);
        let before = (at as usize).min(last);
        (before, (before + 1).min(last), at - before as f32)
    };
    (0..outputs).map(place).collect()
}

/// The same as a matrix `[outputs, inputs]`.
fn matrix(inputs: u64, outputs: u64) -> Vec<f32> {
    let mut all = vec![0.0f32; (inputs * outputs) as usize];
    let rows = all.chunks_exact_mut(inputs.max(1) as usize);
    for (row, (before, after, share)) in rows.zip(places(inputs, outputs)) {
        row[before] += 1.0 - share;
        row[after] += share;
    }
    all
}

/// `scores` `[batch, classes, height, width]` of a known size as another; itself where that is its own, or where a size is not known.
pub(super) fn enlarged<'b>(builder: &'b Builder, scores: Val<'b>, to: Option<[u64; 2]>) -> Val<'b> {
    let shape = scores.ty().and_then(|ty| ty.shape).unwrap_or_default();
    let (Some([height, width]), [_, _, rows, columns]) = (to, &shape[..]) else { return scores };
    let (Some(rows), Some(columns)) = (rows.fixed(), columns.fixed()) else { return scores };
    let mut scores = scores;
    if rows != height {
        let down = builder.constant(Tensor::from_f32(&[height, rows], &matrix(rows, height)));
        scores = down.matmul(scores);
    }
    if columns != width {
        let across = builder.constant(Tensor::from_f32(&[width, columns], &matrix(columns, width)));
        scores = scores.matmul(across.transpose(&[1, 0]));
    }
    scores
}

/// Planes of `from` (height, width) one behind the other, as planes of `to`.
pub fn enlarge(planes: &[f32], from: [u64; 2], to: [u64; 2]) -> Vec<f32> {
    if from == to || planes.is_empty() {
        return planes.to_vec();
    }
    let (lines, columns) = (places(from[0], to[0]), places(from[1], to[1]));
    let width = from[1] as usize;
    let mut line = vec![0.0f32; width];
    let mut all = Vec::with_capacity(planes.len() / (width * from[0] as usize).max(1) * lines.len() * columns.len());
    for plane in planes.chunks_exact(width * from[0] as usize) {
        for (above, below, share) in &lines {
            let rows = [above, below].map(|row| &plane[row * width..(row + 1) * width]);
            for (to, (one, other)) in line.iter_mut().zip(rows[0].iter().zip(rows[1])) {
                *to = (1.0 - share) * one + share * other;
            }
            all.extend(
                columns.iter().map(|(before, after, share)| (1.0 - share) * line[*before] + share * line[*after]),
            );
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_numbers() {
        let planes: Vec<f32> = (0..24).map(|place| (place * place % 17) as f32).collect();
        let (from, to) = ([3, 4], [7, 5]);
        let [down, across] = [matrix(3, 7), matrix(4, 5)];
        let found = enlarge(&planes, from, to);
        assert_eq!(found.len(), 2 * 35);
        for (place, value) in found.iter().enumerate() {
            let (plane, row, column) = (place / 35, place % 35 / 5, place % 5);
            let product =
                |y: usize, x: usize| down[row * 3 + y] * across[column * 4 + x] * planes[plane * 12 + y * 4 + x];
            let sum: f32 = (0..3).flat_map(|y| (0..4).map(move |x| (y, x))).map(|(y, x)| product(y, x)).sum();
            assert!((value - sum).abs() < 1e-5, "{place}: {value} and {sum}");
        }
        assert_eq!(enlarge(&planes, from, from), planes);
        assert_eq!(enlarge(&[1.0, 3.0], [1, 2], [2, 4]), [1.0, 1.5, 2.5, 3.0, 1.0, 1.5, 2.5, 3.0]);
    }
}
