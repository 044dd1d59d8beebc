//! The loss of a detector's cells: as nodes of the step graph, and in Rust for evaluation.
//!
//! With the sum S of the assigned scores s over the batch, at least 1:
//!
//! loss = (Σ BCE(score, s) + 2.5 Σ s·(1 − GIoU) + 0.5 Σ s·DFL) / S
//!
//! Binary cross-entropy is over all cells and classes with s where the cell is a box's, of its class, and 0 elsewhere. Generalised IoU
//! is that of Rezatofighi et al. 2019 (arXiv 1902.09630), the distribution focal loss that of Li et al. 2020 (arXiv 2006.04388), a
//! mean over the four edges; the weights are those of Xu et al. 2022 (PP-YOLOE, arXiv 2203.16250, equation 2). Where classes alone learn, only the first sum counts: the
//! gradient of what makes the edges is 0 then.

use super::assign::Assigned;
use super::corners::distances;
use super::formula::binary_cross_entropy_of;
use crate::graph::{Attr, Builder, DType, Tensor, Val};

/// Numbers that a cell is told: its class, −1 for none; its score; and how far left, top, right and bottom edge are, in cells.
pub(super) const COLUMNS: u64 = 6;
/// What boxes and their edges weigh beside the classes; nothing where classes alone learn.
fn weights(edges: bool) -> [f64; 2] {
    if edges { [2.5, 0.5] } else { [0.0, 0.0] }
}

/// What keeps a quotient of areas finite.
const LEAST: f64 = 1e-9;
/// How far below the last bin a distance stays, so that two bins tell it.
const BELOW_LAST: f64 = 0.01;

/// Appends the loss of `output` `[batch, cells, classes + 4 · bins]` against `labels` `[batch, cells, COLUMNS]`; gives a scalar.
/// `[classes, columns]`: the output's numbers.
pub(super) fn append<'b>(
    builder: &'b Builder,
    output: Val<'b>,
    labels: Val<'b>,
    [classes, columns]: [u64; 2],
    edges_learn: bool,
) -> Val<'b> {
    let [box_weight, edge_weight] = weights(edges_learn);
    let part = |value: Val<'b>, from: u64, to: u64| value.slice(&[from as i64], &[to as i64], &[2]);
    let counted = |count: u64| (0..count).map(|place| place as f32).collect::<Vec<_>>();
    let bins = (columns - classes) / 4;
    let class_numbers = builder.constant(Tensor::from_f32(&[classes], &counted(classes)));
    let bin_numbers = builder.constant(Tensor::from_f32(&[bins], &counted(bins)));
    let (class, score, edges) = (part(labels, 0, 1), part(labels, 1, 2), part(labels, 2, COLUMNS));
    let logits = part(output, 0, classes);
    let targets = class.equal(class_numbers).cast(DType::Float) * score;
    let by_class = (logits.unary("Softplus") - logits * targets).sum_all();

    let spread = part(output, classes, columns).reshape_to(&[0, 0, 4, bins as i64]);
    let shares = builder.op("Softmax", &[spread], &[("axis", Attr::Int(-1))]);
    let told = (shares * bin_numbers).reduce_sum(&[3], false);
    let by_box = (overlap_lost(builder, told, edges) * score).sum_all();

    let last = builder.scalar(DType::Float, (bins - 1) as f64 - BELOW_LAST);
    let none = builder.scalar(DType::Float, 0.0);
    let inside = builder.op("Clip", &[edges, none, last], &[]).unsqueeze(&[3]);
    // A distance between two bins is shared by both, the nearer one the more.
    let wanted = (1.0 - (inside - bin_numbers).unary("Abs")).unary("Relu");
    let log = builder.op("LogSoftmax", &[spread], &[("axis", Attr::Int(-1))]);
    let each = (wanted * log).reduce_sum(&[3], false);
    let by_edge = (each * score).sum_all() * -0.25;

    let one = builder.scalar(DType::Float, 1.0);
    let sum = builder.op("Max", &[score.sum_all(), one], &[]);
    (by_class + by_box * box_weight + by_edge * edge_weight) / sum
}

/// 1 − generalised IoU of boxes around the same point, told by their edges `[batch, cells, 4]`; `[batch, cells, 1]`.
fn overlap_lost<'b>(builder: &'b Builder, one: Val<'b>, other: Val<'b>) -> Val<'b> {
    let edge = |value: Val<'b>, place: i64| value.slice(&[place], &[place + 1], &[2]);
    let area = |value: Val<'b>| (edge(value, 0) + edge(value, 2)) * (edge(value, 1) + edge(value, 3));
    let both = area(builder.op("Min", &[one, other], &[]));
    let hull = area(builder.op("Max", &[one, other], &[]));
    let either = area(one) + area(other) - both;
    1.0 - both / (either + LEAST) + (hull - either) / (hull + LEAST)
}

/// A sample's loss, not yet divided, and its sum of scores. `output`: `[cells, classes + 4 · bins]`.
pub(super) fn of_sample(
    output: &[f32],
    assigned: &[Assigned],
    [classes, columns]: [usize; 2],
    edges_learn: bool,
) -> (f64, f64) {
    let [box_weight, edge_weight] = weights(edges_learn);
    let cells = output.chunks_exact(columns);
    let background = cells.flat_map(|cell| &cell[..classes]).map(|x| binary_cross_entropy_of(f64::from(*x), 0.0));
    let mut loss: f64 = background.sum();
    for Assigned { cell, class, score, edges } in assigned {
        let cell = &output[cell * columns..][..columns];
        loss -= f64::from(cell[*class]) * score;
        let told = distances(&cell[classes..]);
        loss += score * box_weight * overlap_lost_of(told, *edges);
        let by_edge = cell[classes..].chunks_exact((columns - classes) / 4).zip(edges);
        loss += score * edge_weight * by_edge.map(|(spread, edge)| edge_lost(spread, *edge)).sum::<f64>() / 4.0;
    }
    (loss, assigned.iter().map(|assigned| assigned.score).sum())
}

fn overlap_lost_of(one: [f64; 4], other: [f64; 4]) -> f64 {
    let area = |edges: [f64; 4]| (edges[0] + edges[2]) * (edges[1] + edges[3]);
    let each = |choose: fn(f64, f64) -> f64| area([0, 1, 2, 3].map(|edge| choose(one[edge], other[edge])));
    let (both, hull) = (each(f64::min), each(f64::max));
    let either = area(one) + area(other) - both;
    1.0 - both / (either + LEAST) + (hull - either) / (hull + LEAST)
}

/// Cross-entropy of one edge's distribution against the two bins around its distance.
fn edge_lost(spread: &[f32], edge: f64) -> f64 {
    let top = spread.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let log_sum = spread.iter().map(|logit| f64::from(logit - top).exp()).sum::<f64>().ln();
    let inside = edge.clamp(0.0, (spread.len() - 1) as f64 - BELOW_LAST);
    let wanted = |bin: usize| (1.0 - (inside - bin as f64).abs()).max(0.0);
    let each = spread.iter().enumerate().map(|(bin, logit)| wanted(bin) * (log_sum - f64::from(logit - top)));
    each.sum()
}
