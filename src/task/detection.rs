//! Boxes around objects in a photograph, each with a class.

use super::assign::assign;
use super::average_precision::{Scored, Wanted, mean_average_precision};
use super::loss::Loss;
use super::{Answer, Asked, Counts, FoundBox, Task, box_loss, boxes};
use crate::data::{Grid, Labels, Picture, Target};
use crate::delta;
use crate::graph::Tensor;

/// The lowest score of a box that is measured.
const SCORE_MEASURED: f32 = 0.01;
/// The lowest score of a box that is told.
const SCORE_TOLD: f32 = 0.25;

/// Its row.
pub(super) const TASK: Task = Task {
    name: "detection",
    target: Target::Boxes,
    wire: delta::Task::Detection,
    losses: &["boxes", "box-classes"],
    data: "COCO JSON, a YOLO folder (`images`, `labels`, `data.yaml`), Pascal VOC XML",
    metric: "mAP50, mAP50-95",
    answers: "boxes with class and score",
    example: &[("data", "coco.json"), ("loss", "boxes"), ("batch", "4")],
    labels: "boxes around objects: choose boxes or box-classes",
    has: |labels| matches!(labels, Labels::Boxes { .. }),
    width: |labels| Some(labels.names().len() as u64),
    tensor: |labels, samples| assigned(labels, samples, &[]),
    measure,
    commonest: |_, _| None,
    figures,
    answer,
};

fn pictures(labels: &Labels) -> (&[Picture], &Grid) {
    let Labels::Boxes { pictures, grid, .. } = labels else { unreachable!("labels of another task") };
    (pictures, grid)
}

/// What each cell is to tell, by what the detector answers now: `outputs` of the samples, one behind the other. Without any, as if
/// all its answers were alike.
pub(super) fn assigned(labels: &Labels, samples: &[usize], outputs: &[f32]) -> Tensor {
    let (pictures, grid) = pictures(labels);
    let (cells, classes) = (grid.cells(), labels.names().len());
    let width = cells * (classes + 4 * grid.bins);
    let alike = if outputs.is_empty() { vec![0.0; width] } else { Vec::new() };
    let columns = box_loss::COLUMNS as usize;
    let mut rows = vec![0.0f32; samples.len() * cells * columns];
    rows.iter_mut().step_by(columns).for_each(|class| *class = -1.0);
    for (place, sample) in samples.iter().enumerate() {
        let output = if outputs.is_empty() { &alike } else { &outputs[place * width..][..width] };
        for told in assign(grid, &pictures[*sample], output, classes) {
            let row = &mut rows[(place * cells + told.cell) * columns..][..columns];
            row[0] = told.class as f32;
            row[1] = told.score as f32;
            row[2..].iter_mut().zip(told.edges).for_each(|(to, edge)| *to = edge as f32);
        }
    }
    Tensor::from_vec(&[samples.len() as u64, cells as u64, columns as u64], rows)
}

fn measure(counts: &mut Counts, labels: &Labels, loss: &Loss, output: &[f32], sample: usize) {
    let (pictures, grid) = pictures(labels);
    let (picture, classes) = (&pictures[sample], labels.names().len());
    let told = assign(grid, picture, output, classes);
    let edges_learn = matches!(loss, Loss::Boxes { edges: true, .. });
    let (loss, weight) = box_loss::of_sample(output, &told, [classes, classes + 4 * grid.bins], edges_learn);
    counts.sum += loss;
    counts.weight += weight;
    let found = boxes::found(grid, picture.size, output, classes, SCORE_MEASURED);
    for (class, of_class) in counts.boxes.iter_mut().enumerate() {
        let scored = found.iter().filter(|found| found.class == class);
        let scored: Vec<Scored> = scored.map(|found| Scored { corners: found.corners, score: found.score }).collect();
        let objects = picture.objects.iter().filter(|object| object.class as usize == class);
        let there: Vec<Wanted> =
            objects.map(|object| Wanted { corners: object.corners.map(f64::from), crowd: object.crowd }).collect();
        of_class.add(&scored, &there);
    }
}

fn figures(counts: &Counts) -> Vec<(&'static str, f64)> {
    let [half, all] = mean_average_precision(&counts.boxes);
    vec![("map50", half), ("map50_95", all)]
}

fn answer(asked: &Asked<'_>, output: Vec<f32>) -> Answer {
    let Some((grid, size)) = asked.picture else { return Answer { values: output, ..Answer::default() } };
    let found = boxes::found(grid, size, &output, asked.names.len(), SCORE_TOLD);
    let told = |found: boxes::DetectedBox| FoundBox {
        class: asked.names.get(found.class).cloned().unwrap_or_else(|| found.class.to_string()),
        score: found.score,
        corners: found.corners.map(|corner| corner as f32),
    };
    Answer { boxes: Some(found.into_iter().map(told).collect()), ..Answer::default() }
}
