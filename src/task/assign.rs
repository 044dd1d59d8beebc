//! Which cells of a detector are to tell which box: task-aligned, by what the detector answers now.
//!
//! Feng et al. 2021 (TOOD, arXiv 2108.07755, section 3.2): of the cells whose centre lies in a box, the [`CELLS`] best aligned
//! are its, with alignment = score of its class · (IoU of the told box with it)⁶. A cell of several boxes tells the one that it overlaps
//! most. The score that a cell is to give is its alignment, scaled so that a box's largest is the largest IoU of its cells.

use super::corners::{Corners, decode_box, overlap};
use crate::data::{Cell, Grid, Picture};
use crate::order::Order;

/// Cells that a box has at most.
const CELLS: usize = 13;
/// The power of the overlap.
const OVERLAP_POWER: i32 = 6;

/// What a cell is to tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Assigned {
    /// The cell.
    pub cell: usize,
    /// The class of its box.
    pub class: usize,
    /// The score that this class is to have.
    pub score: f64,
    /// How far left, top, right and bottom edge are from its centre, in cells.
    pub edges: [f64; 4],
}

/// A cell that a box may have.
#[derive(Clone, Copy)]
struct Candidate {
    cell: usize,
    object: usize,
    overlap: f64,
    alignment: f64,
}

/// The cells that tell a box, in their order. `output`: `[cells, classes + 4 · bins]`.
pub(super) fn assign(grid: &Grid, picture: &Picture, output: &[f32], classes: usize) -> Vec<Assigned> {
    let cells: Vec<Cell> = grid.each().collect();
    let columns = classes + 4 * grid.bins;
    let scale = grid.scale(picture.size).map(f64::from);
    let objects = picture.objects.iter().filter(|object| !object.crowd);
    let objects: Vec<(usize, Corners)> = objects
        .map(|object| {
            let at = |corner: usize| f64::from(object.corners[corner]) * scale[corner % 2];
            (object.class as usize, [at(0), at(1), at(2), at(3)])
        })
        .collect();
    let mut kept: Vec<Option<Candidate>> = vec![None; cells.len()];
    for (object, (class, corners)) in objects.iter().enumerate() {
        for candidate in best(&cells, output, (object, *class, corners), [classes, columns]) {
            let place = &mut kept[candidate.cell];
            if place.is_none_or(|other| candidate.overlap > other.overlap) {
                *place = Some(candidate);
            }
        }
    }
    let mut largest = vec![(0.0f64, 0.0f64); objects.len()];
    for candidate in kept.iter().flatten() {
        let (alignment, overlap) = &mut largest[candidate.object];
        (*alignment, *overlap) = (alignment.max(candidate.alignment), overlap.max(candidate.overlap));
    }
    let assigned = |candidate: &Candidate| {
        let Cell { centre, stride } = cells[candidate.cell];
        let (class, corners) = objects[candidate.object];
        let (alignment, overlap) = largest[candidate.object];
        let [x, y, stride] = [centre[0], centre[1], stride].map(f64::from);
        let edges = [x - corners[0], y - corners[1], corners[2] - x, corners[3] - y].map(|edge| edge / stride);
        Assigned { cell: candidate.cell, class, score: candidate.alignment / alignment * overlap, edges }
    };
    kept.iter().flatten().map(assigned).collect()
}

/// The best aligned cells of a box, the best first.
fn best(
    cells: &[Cell],
    output: &[f32],
    (object, class, corners): (usize, usize, &Corners),
    [classes, columns]: [usize; 2],
) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let [x, y] = cell.centre.map(f64::from);
        if x <= corners[0] || y <= corners[1] || x >= corners[2] || y >= corners[3] {
            continue;
        }
        let row = &output[number * columns..][..columns];
        let overlap = overlap(&decode_box(cell, &row[classes..]), corners);
        let score = 1.0 / (1.0 + (-f64::from(row[class])).exp());
        let alignment = score * overlap.powi(OVERLAP_POWER);
        if alignment > 0.0 {
            found.push(Candidate { cell: number, object, overlap, alignment });
        }
    }
    found.order_by(|one, other| other.alignment.total_cmp(&one.alignment));
    found.truncate(CELLS);
    found
}
