//! From a detector's output to boxes: decoded, and of those that overlap only the surest.

use super::corners::{Corners, decode_box, overlap};
use crate::data::Grid;
use crate::order::Order;

/// Boxes of a class that are compared with each other at most, the surest.
const CANDIDATES: usize = 1000;
/// Boxes in a photograph at most.
const BOXES_MAX: usize = 100;
/// The overlap above which two boxes of a class are one object.
const OVERLAP_MAX: f64 = 0.6;

/// A box that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DetectedBox {
    pub class: usize,
    pub score: f32,
    /// Left, top, right and bottom edge in pixels of the photograph.
    pub corners: Corners,
}

/// The boxes in a photograph, the surest first. `output`: `[cells, classes + 4 · bins]`; `size`: the photograph's width and height.
pub(super) fn found(grid: &Grid, size: [u32; 2], output: &[f32], classes: usize, score_min: f32) -> Vec<DetectedBox> {
    let columns = classes + 4 * grid.bins;
    let mut candidates: Vec<Vec<DetectedBox>> = vec![Vec::new(); classes];
    let ends = [size[0], size[1], size[0], size[1]].map(f64::from);
    let scale = grid.scale(size).map(f64::from);
    for (cell, row) in grid.each().zip(output.chunks_exact(columns)) {
        let mut corners = None;
        for (class, logit) in row[..classes].iter().enumerate() {
            let score = 1.0 / (1.0 + (-logit).exp());
            if score < score_min {
                continue;
            }
            let corners = *corners.get_or_insert_with(|| {
                let told = decode_box(&cell, &row[classes..]);
                [0, 1, 2, 3].map(|corner| (told[corner] / scale[corner % 2]).clamp(0.0, ends[corner]))
            });
            candidates[class].push(DetectedBox { class, score, corners });
        }
    }
    let mut all: Vec<DetectedBox> = candidates.into_iter().flat_map(surest).collect();
    all.order_by(|one, other| other.score.total_cmp(&one.score));
    all.truncate(BOXES_MAX);
    all
}

/// Of boxes of one class that overlap, only the surest.
fn surest(mut candidates: Vec<DetectedBox>) -> Vec<DetectedBox> {
    candidates.order_by(|one, other| other.score.total_cmp(&one.score));
    candidates.truncate(CANDIDATES);
    let mut kept: Vec<DetectedBox> = Vec::new();
    for candidate in candidates {
        if kept.len() == BOXES_MAX {
            break;
        }
        if kept.iter().all(|other| overlap(&other.corners, &candidate.corners) <= OVERLAP_MAX) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_boxes_that_overlap_the_surest_stays() {
        let found = |score, left: f64| DetectedBox { class: 0, score, corners: [left, 0.0, left + 10.0, 10.0] };
        let kept = surest(vec![found(0.5, 0.0), found(0.9, 1.0), found(0.4, 5.0), found(0.3, 30.0)]);
        assert_eq!(kept.iter().map(|found| found.score).collect::<Vec<_>>(), [0.9, 0.4, 0.3]);
    }
}
