//! Boxes as their corners, and how a detector's cell tells them.

use crate::data::Cell;

/// Left, top, right, bottom.
pub(super) type Corners = [f64; 4];

/// The mean of each edge's distribution, in cells. `spread`: `[4 · bins]` logits.
pub(super) fn distances(spread: &[f32]) -> [f64; 4] {
    let mean = |logits: &[f32]| {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - top).exp()).collect();
        let weighted: f64 = powers.iter().enumerate().map(|(bin, power)| bin as f64 * power).sum();
        weighted / powers.iter().sum::<f64>()
    };
    let bins = spread.len() / 4;
    [0, 1, 2, 3].map(|edge| mean(&spread[edge * bins..][..bins]))
}

/// The box that a cell tells, in pixels of the input.
pub(super) fn decode_box(cell: &Cell, spread: &[f32]) -> Corners {
    let [x, y, stride] = [cell.centre[0], cell.centre[1], cell.stride].map(f64::from);
    let [left, top, right, bottom] = distances(spread).map(|cells| cells * stride);
    [x - left, y - top, x + right, y + bottom]
}

/// Intersection over union.
pub(super) fn overlap(one: &Corners, other: &Corners) -> f64 {
    let both =
        (one[2].min(other[2]) - one[0].max(other[0])).max(0.0) * (one[3].min(other[3]) - one[1].max(other[1])).max(0.0);
    if both > 0.0 { both / (area(one) + area(other) - both) } else { 0.0 }
}

/// Width times height.
pub(super) fn area(corners: &Corners) -> f64 {
    (corners[2] - corners[0]) * (corners[3] - corners[1])
}
